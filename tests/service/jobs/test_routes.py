"""Jobs over HTTP, at a real server in this process."""

import asyncio
import json
import threading

import httpx
import pytest
import uvicorn
from jobplace import LONG, wait_for

from aimass.service.app import build
from aimass.service.platform import Platform
from aimass.service.settings import read_settings


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of a platform, with its first key."""
    home = tmp_path_factory.mktemp("platform")
    platform = Platform(read_settings({"home": str(home), "cpus": 4, "memory": 16 * 10**9}))
    platform.start()
    server = uvicorn.Server(uvicorn.Config(build(platform), port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        wait_for(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        headers = {"authorization": f"Bearer {platform.admin_key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        platform.jobs.close(stop_drivers=True)
        platform.close()


def create(client, **asked):
    data = client.post("/v1/datasets", json={"sample": "iris"}).raise_for_status().json()
    answer = client.post("/v1/training/jobs", json={"dataset": data["id"], **asked})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(client, job, until=lambda event: False, **headers):
    """The events of a stream: (id, type, data)."""
    found = []
    with client.stream("GET", f"/v1/training/jobs/{job}/events", headers={"accept": "text/event-stream", **headers}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                found.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
                fields = {}
                if until(found[-1]):
                    break
    return found


def test_a_job_is_followed_to_its_end(client):
    job = create(client, config={"epochs": 2}, model="flowers")
    part = stream(client, job["id"], until=lambda event: event[1] == "run_started")
    rest = stream(client, job["id"], **{"last-event-id": part[-1][0]})
    assert rest[-1][1] == "done"
    assert rest[-1][2]["result"] == {"model": "flowers", "version": 1}
    ids = [int(event[0]) for event in part + rest[:-1]]
    assert ids == list(range(len(ids)))
    page = client.get(f"/v1/training/jobs/{job['id']}/events?after=2&limit=2").json()
    assert [event["seq"] for event in page["data"]] == [3, 4]
    assert page["has_more"]
    assert page["data"][0]["object"] == "training.job.event"
    listed = client.get("/v1/training/jobs?status=succeeded").json()
    assert [entry["id"] for entry in listed["data"]] == [job["id"]]


def test_clients_that_leave_a_stream_leave_no_thread(client):
    job = create(client, config=LONG)["id"]
    wait_for(lambda: client.get(f"/v1/training/jobs/{job}").json()["status"] == "running")
    stream(client, job, until=lambda event: event[1] == "started")
    before = threading.active_count()
    for _ in range(10):
        stream(client, job, until=lambda event: event[1] == "started")
    wait_for(lambda: client.get(f"/v1/training/jobs/{job}").is_success and threading.active_count() <= before + 2)
    assert client.post(f"/v1/training/jobs/{job}/cancel").json()["object"] == "training.job"
    wait_for(lambda: client.get(f"/v1/training/jobs/{job}").json()["status"] == "cancelled")
    assert client.post(f"/v1/training/jobs/{job}/cancel").status_code == 409
    assert client.post(f"/v1/training/jobs/{job}/resume", json={"config": {"seed": 3}}).status_code == 400


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"dataset": "ds-none"}, 404),
        ({"dataset": "ds-none", "config": {"epoch": 1}}, 400),
        ({"dataset": "ds-none", "model": "../up"}, 422),
        ({"dataset": "ds-none", "memory": "1 parsec"}, 400),
        ({"dataset": "ds-none", "cpus": 1000}, 400),
        ({}, 422),
    ],
)
def test_what_is_off_is_a_clear_4xx(client, asked, status):
    answer = client.post("/v1/training/jobs", json=asked)
    assert answer.status_code in (status, 400), answer.text
    assert answer.json()["error"]["message"]


def test_jobs_that_are_not_there(client):
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/resume")):
        assert client.request(method, f"/v1/training/jobs/job-none{path}").status_code == 404
    assert client.get("/v1/training/jobs/job-none/events?stream=true").status_code == 404


def test_a_stream_ends_with_its_key(client):
    job = create(client, config=LONG)["id"]
    made = client.post("/v1/keys", json={"name": "for a while"}).raise_for_status().json()
    headers = {"authorization": f"Bearer {made['key']}", "accept": "text/event-stream"}
    with client.stream("GET", f"/v1/training/jobs/{job}/events", headers=headers) as answer:
        lines = answer.iter_lines()
        next(lines)
        client.delete(f"/v1/keys/{made['id']}").raise_for_status()
        list(lines)  # it ends, though the job does not
    client.post(f"/v1/training/jobs/{job}/cancel").raise_for_status()
