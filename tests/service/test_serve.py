import json
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from served import get, running, start, upload


def test_a_first_start_makes_the_project_and_shows_its_key_once_and_its_home_is_free_as_soon_as_it_is_dead(tmp_path):
    first = start(tmp_path)
    assert first.key.startswith("am_")
    with first.client() as client:
        assert [project["name"] for project in client.get("/v1/projects").json()["data"]] == ["default"]
    with pytest.raises(AssertionError, match=rf"answers at {first.url} \(pid {first.process.pid}\)"):
        start(tmp_path)
    first.process.kill()
    first.process.wait(timeout=120)
    first.process.stdout.close()
    again = start(tmp_path)
    assert again.key is None
    again.key = first.key
    with again.client() as client:
        assert client.get("/v1/keys").json()["data"][0]["name"] == "first admin key"
    assert again.stop(signal.SIGINT) == 0
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size < 10_000_000)
    assert first.key.rpartition("_")[2].encode() not in kept


def test_the_service_has_no_torch_in_its_process(service, admin):
    assert admin.get("/v1/models").status_code == 200
    assert "libtorch" not in Path(f"/proc/{service.process.pid}/maps").read_text()


def test_a_port_in_use_is_a_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AssertionError, match=r"cannot be listened on \(Address already in use\).*--port"):
            start(tmp_path, port=taken.getsockname()[1])


def test_a_host_that_is_none_is_a_sentence(tmp_path):
    with pytest.raises(AssertionError, match="cannot be listened on"):
        start(tmp_path, host="256.1.1.1")


def test_a_database_that_is_away_is_a_sentence(tmp_path):
    with pytest.raises(AssertionError, match="does not answer"):
        start(tmp_path, database_url="postgresql://nobody@127.0.0.1:1/none")


def test_a_request_under_way_is_answered_before_the_service_leaves(tmp_path):
    with running(tmp_path, shutdown_timeout="120s") as service:
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=120) as wire:
            body = json.dumps({"name": "late"}).encode()
            head = f"POST /v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.key}\r\ncontent-type: application/json\r\n"
            wire.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body[:5])
            until_busy(service)
            service.process.send_signal(signal.SIGTERM)
            until_closed(service)
            wire.sendall(body[5:])
            answer = wire.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert service.stop() == 0


def until_busy(service):
    """Wait until the service has read what was sent so far: it answers another request that came later."""
    for _ in range(3):
        get(f"{service.url}/health/live")


def until_closed(service):
    host, port = service.url.removeprefix("http://").split(":")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection((host, int(port)), timeout=60).close()
        except OSError:
            return
        time.sleep(0.02)
    raise AssertionError("the service still listens")


def test_the_log_has_a_line_for_each_request_and_no_secret(service, admin, member):
    upload(member, b"a,b\nsecret-body,2\n", "x.csv")
    admin.get("/v1/files?after=hidden-query", headers={"x-request-id": "find-me.1"})
    lines = [json.loads(line) for line in (service.home / "service.log").read_text().splitlines()]
    mine = next(line for line in lines if line.get("request_id") == "find-me.1")
    assert (mine["method"], mine["path"], mine["status"], mine["level"]) == ("GET", "/v1/files", 200, "info")
    assert mine["ms"] >= 0
    text = (service.home / "service.log").read_text()
    for hidden in (service.key.rpartition("_")[2], member.key.rpartition("_")[2], "secret-body", "hidden-query"):
        assert hidden not in text


def test_request_ids_are_echoed_where_they_are_sane(admin):
    assert admin.get("/v1/models", headers={"x-request-id": "a-b_c.1"}).headers["x-request-id"] == "a-b_c.1"
    for insane in ("a b", "x" * 129, "ü"):
        given = admin.get("/v1/models", headers={"x-request-id": insane.encode()}).headers["x-request-id"]
        assert given.startswith("req-")


def test_health_needs_no_key(service):
    assert get(f"{service.url}/health/live").json() == {"status": "ok"}
    assert get(f"{service.url}/health/ready").json() == {"status": "ready", "problems": []}
    assert get(f"{service.url}/v2/health/live").json() == {"live": True}
    assert get(f"{service.url}/v2/health/ready").json() == {"ready": True}
    assert get(f"{service.url}/v2").json()["name"] == "aimass"


def test_the_docs_load_nothing_from_elsewhere(service):
    page = get(f"{service.url}/docs")
    assert page.status_code == 200
    sources = [part.split('"')[1] for part in page.text.replace("src=", "href=").split("href=")[1:]]
    assert sources
    for source in sources:
        assert source.startswith("/docs/")
        assert get(f"{service.url}{source}").status_code == 200
    assert get(f"{service.url}/docs/other").status_code == 404
    assert "/v1/models/{name}:predict" in get(f"{service.url}/openapi.json").json()["paths"]


def test_metrics_are_for_this_machine_and_for_admins(service, admin, member):
    assert "aimass_jobs" in get(f"{service.url}/metrics").text
    forwarded = {"x-forwarded-for": "10.1.1.1"}
    assert get(f"{service.url}/metrics", headers=forwarded).status_code == 401
    assert member.get("/metrics", headers=forwarded).status_code == 403
    assert admin.get("/metrics", headers=forwarded).status_code == 200


def test_a_client_that_keeps_asking_does_not_keep_the_service(tmp_path):
    with running(tmp_path) as service:
        done = threading.Event()

        def idle():
            with service.client() as client, pytest.raises(httpx.HTTPError):
                client.get("/v1/models")
                done.set()
                while True:
                    client.get("/health/live")
                    time.sleep(0.05)

        thread = threading.Thread(target=idle)
        thread.start()
        assert done.wait(120)
        assert service.stop() == 0
        thread.join(120)
        assert not thread.is_alive()
