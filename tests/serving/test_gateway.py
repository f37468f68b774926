import json
import os
import signal
import socket
import struct

import httpx
import numpy as np
import pytest
from serving.gateways import HEADERS, KEY, Bill, row, running, save, target, until
from sqlalchemy import select

from aimass.core.errors import QuotaExceeded, StorageError
from aimass.models.model import Model
from aimass.store.tables import usage_events

PREDICT = "/v1/models/small:predict"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def bill():
    return Bill()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, folder, bill):
    with running(tmp_path_factory.mktemp("home"), target(folder), meter=bill, max_body=1 << 20) as one:
        yield one


@pytest.fixture
def client(gateway, bill):
    bill.error = None
    bill.charges.clear()
    bill.marks.clear()
    with httpx.Client(base_url=gateway.url, headers=HEADERS, timeout=60) as one:
        yield one
    until(lambda: len(bill.marks) >= len(bill.charges))  # what a test leaves under way would be noted in the next


def error_of(response):
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    return response.json()["error"]


def test_a_prediction_equals_the_models_and_is_charged(client, bill, folder):
    rows = [{"a": 1.0, "b": 0.5, "c": 2e6}, {"a": 3, "b": 0, "c": 0}]
    response = client.post(PREDICT, json={"instances": rows}, headers={"x-request-id": "mine-1"})
    assert response.status_code == 200
    assert response.headers["x-request-id"] == "mine-1"
    answer = response.json()
    assert (answer["model"], answer["version"]) == ("small", 1)
    wanted = Model.load(folder).predict(rows)
    assert [each["prediction"] for each in answer["predictions"]] == [each["prediction"] for each in wanted]
    assert [each["probability"] for each in answer["predictions"]] == pytest.approx([each["probability"] for each in wanted])
    (charge,) = bill.charges
    assert {name: charge[name] for name in ("project", "key", "model", "version", "rows", "request_id")} == {
        "project": "proj-1",
        "key": KEY[3:29],
        "model": "small",
        "version": 1,
        "rows": 2,
        "request_id": "mine-1",
    }
    until(lambda: bill.marks == [("sent", 1)])


def test_ids_of_requests_are_new_unless_a_sane_one_is_given(client):
    first, second = (client.post(PREDICT, json={"instances": [row()]}) for _ in range(2))
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    strange = client.post(PREDICT, json={"instances": [row()]}, headers={"x-request-id": "a b"})
    assert strange.headers["x-request-id"].startswith("req-")


def test_quoted_paths_and_versions(client):
    for path in ("/v1/models/small%3Apredict", "/v1/models/small/versions/1:predict", "/v1/models/sm%61ll/versions/1%3Apredict"):
        assert client.post(path, json={"instances": [row()]}).status_code == 200


def test_everything_else_goes_to_the_rest_app(client):
    assert client.get("/v1/models").json() == {"rest": True}
    assert client.get(PREDICT).json() == {"rest": True}
    assert client.post(PREDICT, json={}, headers={"idempotency-key": "one"}).json() == {"rest": True}
    assert client.post("/v1/models/a/b:predict").json() == {"rest": True}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        (PREDICT, b"{}", {"authorization": "Bearer am_no"}, 401, "invalid_api_key"),
        ("/v1/models/none:predict", b"{}", {}, 404, "not_found"),
        ("/v1/models/small/versions/2:predict", b"{}", {}, 404, "not_found"),
        (PREDICT, b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        (PREDICT, b"{}", {"content-encoding": "gzip"}, 415, "unsupported_media_type"),
        (PREDICT, b"{}", {"x-deadline-ms": "soon"}, 400, "invalid_request"),
        ("/v2/models/small/infer", b"{}", {"inference-header-content-length": "99"}, 400, "invalid_request"),
        (PREDICT, b"{nonsense", {}, 400, None),
        (PREDICT, b'{"instances": [{"a": 1}]}', {}, 422, "invalid_data"),
    ],
)
def test_bad_requests_are_refused_with_a_sentence_and_not_charged(client, bill, path, body, headers, status, code):
    response = client.post(path, content=body, headers={"content-type": "application/json", **headers})
    assert response.status_code == status, response.text
    error = error_of(response)
    assert set(error) == {"message", "type", "param", "code"}
    assert code is None or error["code"] == code
    assert len(error["message"]) > 10
    assert bill.charges == []
    assert client.post(PREDICT, json={"instances": [row()]}).status_code == 200


def test_a_body_over_the_limit_is_refused_before_it_is_read(client):
    response = client.post(PREDICT, content=b" " * (1 << 20) + b"{}", headers={"content-type": "application/json"})
    assert (response.status_code, error_of(response)["code"]) == (413, "too_large")

    def endless():
        for _ in range(40):
            yield b" " * (1 << 16)

    response = client.post(PREDICT, content=endless(), headers={"content-type": "application/json"})
    assert (response.status_code, error_of(response)["code"]) == (413, "too_large")


def test_a_large_body_within_the_limit_is_answered(client, bill):
    rows = [[1.0, 2.0, 3.0]] * 5000
    response = client.post(PREDICT, json={"instances": rows})
    assert response.status_code == 200
    assert len(response.json()["predictions"]) == 5000
    assert bill.charges[0]["rows"] == 5000


def test_a_body_that_never_ends_holds_nobody_else(gateway, client, monkeypatch):
    with socket.create_connection(("127.0.0.1", gateway.port)) as slow:
        slow.sendall(_head(1000) + b'{"inst')
        assert client.post(PREDICT, json={"instances": [row()]}).status_code == 200
        monkeypatch.setattr(gateway.gateway._bodies, "_limit_s", 0.2)
        slow.settimeout(120)
        assert slow.recv(65536).startswith(b"HTTP/1.1 408")
    monkeypatch.undo()
    assert client.post(PREDICT, json={"instances": [row()]}).status_code == 200


def test_pipelined_requests_are_answered_in_order(gateway, client):
    bodies = [json.dumps({"instances": [row()] * count}).encode() for count in (1, 2, 3)]
    with socket.create_connection(("127.0.0.1", gateway.port)) as pipe:
        pipe.sendall(b"".join(_head(len(body)) + body for body in bodies))
        pipe.settimeout(120)
        data = b""
        while data.count(b'"version":1}') < 3:
            data += pipe.recv(65536)
    answers = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in data.split(b"HTTP/1.1 200 OK")[1:]]
    assert [len(answer["predictions"]) for answer in answers] == [1, 2, 3]


def test_a_client_that_leaves_before_its_answer_is_not_charged(gateway, client, bill):
    client.post(PREDICT, json={"instances": [row()]})
    bill.charges.clear()
    (pid,) = gateway.pids()
    body = json.dumps({"instances": [row()]}).encode()
    os.kill(pid, signal.SIGSTOP)
    try:
        with socket.create_connection(("127.0.0.1", gateway.port)) as leaver:
            name = leaver.getsockname()
            leaver.sendall(_head(len(body)) + body)
            until(lambda: gateway.center.engines()[0]["load"]["in_flight"] == 1)
        until(lambda: name not in [each.client for each in list(gateway._server.server_state.connections)])
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: gateway.center.engines()[0]["load"]["in_flight"] == 0)
    assert client.post(PREDICT, json={"instances": [row()] * 2}).status_code == 200
    assert [charge["rows"] for charge in bill.charges] == [2]


def test_an_answer_that_cannot_be_recorded_does_not_leave(client, bill):
    bill.error = StorageError("the disk is full; free some")
    response = client.post(PREDICT, json={"instances": [row()]})
    assert (response.status_code, error_of(response)["code"]) == (507, "storage")
    bill.error = QuotaExceeded("the budget is used up; raise it")
    response = client.post(PREDICT, json={"instances": [row()]})
    assert (response.status_code, error_of(response)["type"]) == (429, "insufficient_quota")


def test_a_deadline_that_cannot_be_met_is_refused_at_the_door(gateway, client, folder):
    gateway.names.targets["cold"] = target(folder, "cold")
    response = client.post("/v1/models/cold:predict", json={"instances": [row()]}, headers={"x-deadline-ms": "1"})
    assert (response.status_code, error_of(response)["code"]) == (503, "unavailable")
    assert int(response.headers["retry-after-ms"]) > 0
    until(lambda: gateway.center.is_loaded("ver-cold-1"))  # it was brought all the same
    assert client.post("/v1/models/cold:predict", json={"instances": [row()]}, headers={"x-deadline-ms": "60000"}).status_code == 200


def test_counts_are_there_for_prometheus(gateway, client):
    client.post(PREDICT, json={"instances": [row()] * 3})
    client.post(PREDICT, content=b"{", headers={"content-type": "application/json"})
    metrics = {metric.name: metric for metric in gateway.gateway.metrics()}
    labels = {"project": "proj-1", "deployment": "small"}
    found = {
        sample.labels["status"]: sample.value for sample in metrics["aimass_requests"].samples if sample.labels["deployment"] == "small"
    }
    assert found["2xx"] >= 1
    assert found["4xx"] >= 1
    counted = {sample.name: sample.value for sample in metrics["aimass_request_seconds"].samples if labels.items() <= sample.labels.items()}
    assert counted["aimass_request_seconds_count"] == sum(found.values())


def test_the_real_bill_has_every_row(tmp_path, folder):
    with running(tmp_path, target(folder)) as gateway, httpx.Client(base_url=gateway.url, headers=HEADERS, timeout=60) as client:
        for count in (1, 2, 3):
            assert client.post(PREDICT, json={"instances": [row()] * count}).status_code == 200
        assert client.post(PREDICT, json={"instances": [{}]}).status_code == 422

        def posted():
            with gateway._database.read() as connection:
                return sorted(connection.execute(select(usage_events.c.quantity)).scalars())

        assert until(lambda: len(found := posted()) >= 3 and found) == [1, 2, 3]


@pytest.mark.parametrize("binary", [False, True])
def test_tritons_client_infers(gateway, client, binary):
    http = pytest.importorskip("tritonclient.http")
    triton = http.InferenceServerClient(f"127.0.0.1:{gateway.port}")
    try:
        tensor = http.InferInput("input", [2, 3], "FP32")
        tensor.set_data_from_numpy(np.ones((2, 3), dtype=np.float32), binary_data=binary)
        outputs = [http.InferRequestedOutput("probability", binary_data=binary)]
        result = triton.infer("small", [tensor], outputs=outputs, headers=dict(HEADERS))  # it writes into them
    finally:
        triton.close()
    wanted = client.post(PREDICT, json={"instances": [[1, 1, 1]] * 2}).json()["predictions"]
    assert result.as_numpy("probability").tolist() == pytest.approx([each["probability"] for each in wanted])


def _head(length):
    return (
        f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\nauthorization: {HEADERS['authorization']}\r\n"
        f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def test_a_client_that_leaves_in_the_middle_of_a_long_answer_is_credited(gateway, client, bill):
    body = json.dumps({"instances": [[1, 1, 1]] * 10000}).encode()
    with socket.socket() as leaver:
        leaver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        leaver.connect(("127.0.0.1", gateway.port))
        leaver.sendall(_head(len(body)) + body)
        until(lambda: len(bill.charges) == 1)
        leaver.recv(100)
        leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it leaves at once, and says so
    until(lambda: bill.marks)
    assert bill.marks == [("credit", 1)]
