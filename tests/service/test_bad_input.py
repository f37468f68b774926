"""Bad input has a clear 4xx, and others' requests go on meanwhile."""

import json
import socket
import threading

import pytest
from served import CSV, error_of, get, running, until, upload


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A service with small limits, and time for who is slow."""
    with running(tmp_path_factory.mktemp("narrow") / "home", max_upload="1MB", max_body="100KB", body_timeout="120s") as found:
        yield found


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A service that waits for nobody for long."""
    with running(tmp_path_factory.mktemp("hasty") / "home", body_timeout="3s") as found:
        yield found


class Wire:
    """A connection on which a test says what it likes."""

    def __init__(self, service):
        host, port = service.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def say(self, text):
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def head(self, method, path, service, **headers):
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.say(f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.key}\r\n{lines}\r\n")

    def answer(self):
        """Status and body of the one answer; the service ends the connection or gives a length."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += self._more()
        head, _, body = raw.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), None)
        assert length is not None, head
        while len(body) < length:
            body += self._more()
        return int(head.split()[1]), json.loads(body)["error"], head

    def _more(self):
        got = self.socket.recv(65536)
        assert got, "the service closed the connection without an answer"
        return got


def kept(service):
    """What lies in the store, finished or not."""
    return sorted(str(path) for path in (service.home / "blobs").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "path", ["/v1/files", "/v1/datasets", "/v1/models/x:predict", "/v2/models/x/infer", "/v1/registry/models/x/versions"]
)
def test_a_length_beyond_the_limit_is_refused_at_once(narrow, path):
    with Wire(narrow) as wire:
        kind = "multipart/form-data; boundary=b" if "files" in path or "registry" in path else "application/json"
        wire.head("POST", path, narrow, content_type=kind, content_length=10_000_000_000)
        status, error, _ = wire.answer()
    assert status in ((413, 404) if "models/x" in path else (413,))
    assert isinstance(error, str) or error["code"] in ("too_large", "not_found")


def test_chunks_beyond_the_limit_are_refused_and_nothing_is_kept(narrow):
    before = kept(narrow)
    part = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    with Wire(narrow) as wire:
        wire.head("POST", "/v1/files", narrow, content_type="multipart/form-data; boundary=b", transfer_encoding="chunked")
        wire.say(b"%x\r\n%b\r\n" % (len(part), part))
        try:
            for _ in range(40):
                wire.say(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000))
        except OSError:
            pass
        status, error, _ = wire.answer()
    assert (status, error["code"]) == (413, "too_large")
    assert kept(narrow) == before


def test_a_file_just_within_the_limit_is_taken(narrow):
    with narrow.client() as client:
        assert upload(client, b"x" * 1_000_000)["bytes"] == 1_000_000
        error_of(client.post("/v1/files", files={"file": ("a", b"x" * 1_000_001)}), 413)


FORM = {"content_type": "multipart/form-data; boundary=b"}
JSON = {"content_type": "application/json"}
PART = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nhello'
ENDLESS = [
    ("/v1/files", FORM, PART),
    ("/v1/datasets", JSON, b'{"sample": '),
    ("/v1/datasets", {**JSON, "idempotency_key": "slow"}, b"{"),  # it is held whole before anybody looks at it
    *[("/v1/files", FORM, b"--b\r\n")] * 60,
]


def test_bodies_that_never_end_run_into_a_timeout_while_others_go_on(hasty):
    before, wires = kept(hasty), [Wire(hasty) for _ in ENDLESS]
    try:
        for wire, (path, headers, start) in zip(wires, ENDLESS, strict=True):
            wire.head("POST", path, hasty, **headers, content_length=5000)
            wire.say(start)
        with hasty.client() as other:
            assert other.get("/v1/files").status_code == 200
            files = [upload(other, b"meanwhile") for _ in range(5)]
            answers = [wire.answer() for wire in wires]
            for file in files:
                other.delete(f"/v1/files/{file['id']}").raise_for_status()
    finally:
        for wire in wires:
            wire.socket.close()
    assert {(status, error["code"]) for status, error, _ in answers} == {(408, "request_timeout")}
    assert all(b"connection: close" in head.lower() for _, _, head in answers[:2])
    assert [path for path in kept(hasty) if path not in before and "unfinished" in path] == []


def test_clients_that_vanish_leave_nothing(narrow):
    before = kept(narrow)
    for _ in range(10):
        with Wire(narrow) as wire:
            wire.head("POST", "/v1/files", narrow, content_type="multipart/form-data; boundary=b", content_length=900_000)
            wire.say(b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 300_000)
    with narrow.client() as other:
        file = upload(other, b"the end")
        other.delete(f"/v1/files/{file['id']}")
    assert until(lambda: [path for path in kept(narrow) if "unfinished" in path and path not in before], [])


BODIES = [
    (b"", "application/json", 415, None),
    (b"{", "application/json", 400, "invalid_json"),
    (b"\xff\xfe", "application/json", 400, "invalid_json"),
    (b"NaN", "application/json", 400, "invalid_json"),
    (b'{"name": Infinity}', "application/json", 400, "invalid_json"),
    (b"[" * 100_000, "application/json", 400, "invalid_json"),
    (b'{"a":' * 20_000, "application/json", 400, "invalid_json"),
    (b"null", "application/json", 422, None),
    (b'"text"', "application/json", 422, None),
    (b'{"name": "\\ud800"}', "application/json", 422, None),
    (b'{"name": "a\\u0000b"}', "application/json", 422, None),
    (b"1" * 5000, "application/json", None, None),
    (b"name=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    (b"<name/>", "text/xml", 415, "unsupported_media_type"),
    (b'{"name": "x"}', "text/plain", 415, "unsupported_media_type"),
]


@pytest.mark.parametrize(("body", "kind", "status", "code"), BODIES)
@pytest.mark.parametrize("path", ["/v1/keys", "/v1/projects", "/v1/datasets", "/v1/deployments"])
def test_bodies_that_are_no_objects(admin, path, body, kind, status, code):
    headers = {"content-type": kind} if body else {}
    answer = admin.post(path, content=body, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
    if status == 422:
        assert answer.status_code in (400, 422)
    elif status is not None:
        assert answer.status_code == status, answer.text
    error = error_of(answer, answer.status_code)
    assert code is None or error["code"] == code
    assert len(error["message"]) < 3000


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/..%2f..%2faimass.db",
        "/v1/files/..%2f..%2faimass.db/content",
        "/v1/files/%2e%2e/content",
        "/v1/datasets/..%5c..%5cx",
        "/v1/deployments/..%2f..",
        "/v1/training/jobs/..%2f..",
        "/v1/training/jobs/%2e%2e%2fx/events",
        "/v1/registry/models/..%2f../versions/1",
        "/v1/registry/models/x/versions/..%2f..%2f",
        "/v1/models/..%2f..%2fetc",
        "/v2/models/..%2f..",
        "/v1/keys/..%2f",
        "/v1/projects/..%2f..",
        "/docs/..%2f..%2fapp.py",
        "/v1/files/" + "x" * 5000,
        "/v1/files/%F0%9F%92%A9",
        "/v1/files/' OR 1=1 --",
        "/../../etc/passwd",
    ],
)
def test_paths_that_lead_elsewhere_lead_nowhere(admin, path):
    answer = admin.get(path)
    assert answer.status_code in (400, 404, 405, 422), (path, answer.status_code, answer.text[:200])
    error_of(answer, answer.status_code)


@pytest.mark.parametrize("path", ["/v1/files/a%00b", "/v1/files/a%0ab", "/v1/files?after=a%00b", "/v2/models/a%00b"])
def test_control_characters_in_an_address_are_refused(admin, path):
    error_of(admin.get(path), 400)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=101", "limit=x", "limit=1e9", f"limit={'9' * 400}", "order=up", f"after={'x' * 500}"],
)
def test_pages_that_are_none(admin, query):
    error = error_of(admin.get(f"/v1/datasets?{query}"), 422)
    assert error["param"] == query.partition("=")[0]


def test_the_bare_address_leads_to_the_documentation(admin):
    answer = admin.get("/", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/docs")


def test_unknown_routes_and_methods(admin, service):
    assert error_of(admin.get("/v1/nothing"), 404)["code"] == "not_found"
    assert error_of(admin.get("/nothing"), 404)["code"] == "not_found"
    assert error_of(admin.patch("/v1/files"), 405)["code"] == "method_not_allowed"
    error_of(get(f"{service.url}/v1/nothing"), 401)


def test_a_request_that_is_no_http_harms_nobody(service, admin):
    for text in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n\r\n", b"x" * 300_000):
        with Wire(service) as wire:
            try:
                wire.say(text)
                wire.socket.settimeout(0.2)
                wire.socket.recv(100)
            except OSError:
                pass
    assert admin.get("/v1/files").status_code == 200


def test_lengths_that_are_none_are_refused(service, admin):
    with Wire(service) as wire:
        wire.head("POST", "/v1/projects", service, content_type="application/json", content_length="-5")
        assert b" 400 " in wire.socket.recv(1000)
    assert admin.get("/v1/files").status_code == 200


def test_others_go_on_while_one_sends_rubbish(service, admin, member):
    stop, problems = threading.Event(), []

    def rubbish():
        with service.client() as client:
            while not stop.is_set():
                for content in (b"[" * 50_000, b"\xff" * 1000, b"{}"):
                    client.post("/v1/datasets", content=content, headers={"content-type": "application/json"})

    thread = threading.Thread(target=rubbish)
    thread.start()
    try:
        for number in range(10):
            file = upload(member, CSV + b"%d" % number * 0)
            if member.get(f"/v1/files/{file['id']}/content").content != CSV:
                problems.append(file)
    finally:
        stop.set()
        thread.join()
    assert problems == []


def test_a_request_that_broke_off_leaves_its_idempotency_key_free(service):
    body = json.dumps({"sample": "iris", "name": "whole"})
    sent = {"content_type": "application/json", "idempotency_key": "broke-off", "content_length": len(body)}
    with Wire(service) as wire:
        wire.head("POST", "/v1/datasets", service, **sent)
        wire.say(body[:10])
    with service.client() as client:
        answer = client.post("/v1/datasets", content=body, headers={"idempotency-key": "broke-off", "content-type": "application/json"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/files", "/v1/registry/models/m/versions"])
def test_a_body_held_for_its_idempotency_key_is_bounded(narrow, path):
    with narrow.client() as client:
        answer = client.post(path, content=b" " * 300_000, headers={"idempotency-key": "large", "content-type": "application/json"})
    assert error_of(answer, 413)["code"] == "too_large"
