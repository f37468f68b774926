import hashlib
import inspect
import json
import socket
import time
from email.parser import BytesParser

import pytest
from misbehaving import Answer, Drop, error

from aimass.client import AsyncClient, Client
from aimass.core.errors import (
    AimassError,
    Conflict,
    DataError,
    Forbidden,
    NotFound,
    QuotaExceeded,
    StorageError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UsageError,
)

FILE = {
    "id": "file-1",
    "object": "file",
    "bytes": 3,
    "filename": "a.csv",
    "created_at": 5,
    "purpose": "dataset",
    "sha256": "00",
    "later": 1,
}
AT_ONCE = {"retry_after_ms": "1"}


def upload(path):
    return lambda client: client.files.upload(path)


def predict(client):
    return client.predict("churn", [{"age": 41}])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\n" + bytes(range(256)) * 9000)
    return path


def test_an_answer_is_typed_and_keeps_what_this_release_does_not_know(app, use):
    app.will(Answer(FILE))
    found = use(lambda client: client.files.get("file-1"))
    assert (found.id, found.bytes, found.created_at, found.raw["later"]) == ("file-1", 3, 5, 1)
    (seen,) = app.seen
    assert (seen.method, seen.path) == ("GET", "/v1/files/file-1")
    assert seen.headers["authorization"] == "Bearer am_0000_secret"
    assert "openai-project" not in seen.headers


def test_an_admin_key_acts_in_a_project(app, use):
    app.will(Answer(FILE))
    use(lambda client: client.files.get("file-1"), project="shop")
    assert app.seen[0].headers["openai-project"] == "shop"


def test_names_cannot_leave_their_place_in_the_path(app, use):
    app.will(Answer(FILE))
    use(lambda client: client.files.get("../keys?x=1#y"))
    assert app.seen[0].path == "/v1/files/..%2Fkeys%3Fx%3D1%23y"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", UsageError),
        (401, "invalid_api_key", Unauthorized),
        (403, "permission_denied", Forbidden),
        (404, "not_found", NotFound),
        (409, "conflict", Conflict),
        (413, "too_large", TooLarge),
        (422, "invalid_data", DataError),
        (422, "invalid_request", UsageError),
        (429, "insufficient_quota", QuotaExceeded),
        (500, "internal", AimassError),
        (500, "model_output", AimassError),
        (507, "storage", StorageError),
    ],
)
def test_an_error_is_the_one_that_it_would_be_here(app, use, status, code, kind):
    app.will(error(status, code))
    with pytest.raises(AimassError) as caught:
        use(lambda client: client.files.get("file-1"))
    found = caught.value
    assert type(found) is kind
    assert (str(found), found.code, found.status, found.param, found.request_id) == ("it is so", code, status, "name", "req-7")
    assert len(app.seen) == 1


def test_what_is_no_service_says_so(app, use):
    app.will(Answer(b"<html>welcome</html>"))
    with pytest.raises(AimassError, match="answered with no JSON object; is an AI Mass service there"):
        use(lambda client: client.files.get("file-1"))
    app.will(Answer(b"", 302, {"location": "https://elsewhere.example"}))
    with pytest.raises(AimassError, match="302 Found, and points to https://elsewhere"):
        use(lambda client: client.files.get("file-1"))
    app.will(Answer(b"nginx", 404))
    with pytest.raises(NotFound, match=r"GET http://127.0.0.1:\d+/v1/files/file-1 answered 404 Not Found: nginx"):
        use(lambda client: client.files.get("file-1"))
    app.will(Answer({"id": 7, "filename": []}))
    with pytest.raises(AimassError, match="a file that this client cannot read"):
        use(lambda client: client.files.get("file-1"))


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_what_passes_is_tried_again(app, use, status):
    app.will(error(status, "some", **AT_ONCE), Answer(FILE))
    assert use(lambda client: client.files.get("file-1")).id == "file-1"
    assert len(app.seen) == 2


def test_tries_come_to_an_end(app, use):
    app.will(error(503, "unavailable", **AT_ONCE))
    with pytest.raises(Unavailable, match="it is so"):
        use(lambda client: client.files.get("file-1"), max_retries=2)
    assert len(app.seen) == 3


def test_a_budget_that_is_used_up_is_not_asked_again(app, use):
    app.will(error(429, "insufficient_quota", retry_after="0"), Answer(FILE))
    with pytest.raises(QuotaExceeded):
        use(lambda client: client.files.get("file-1"))
    assert len(app.seen) == 1


def test_nobody_waits_for_an_hour(app, use):
    app.will(error(503, "unavailable", retry_after="3600"), Answer(FILE))
    with pytest.raises(Unavailable):
        use(lambda client: client.files.get("file-1"))


def test_every_sending_of_what_creates_is_the_same_request(app, use, file):
    app.will(error(503, "unavailable", **AT_ONCE), Drop, error(409, "conflict", retry_after_ms="1"), Answer(FILE))
    assert use(upload(file)).id == "file-1"
    assert len(app.seen) == 4
    keys = {seen.headers["idempotency-key"] for seen in app.seen}
    (key,) = keys
    assert len(key) >= 16
    assert len({seen.body for seen in app.seen}) == 1
    assert len({seen.headers["content-type"] for seen in app.seen}) == 1

    app.will(Answer(FILE))
    use(upload(file))
    assert app.seen[0].headers["idempotency-key"] != key


def test_a_conflict_that_will_not_pass_is_final(app, use):
    app.will(error(409), Answer(FILE))
    with pytest.raises(Conflict):
        use(lambda client: client.projects.create("shop"))


@pytest.mark.parametrize("how", [Drop, Answer({"predictions": []}, cut=4), error(502, "bad_gateway"), error(504, "timeout")])
def test_a_prediction_that_may_have_been_charged_is_not_sent_again(app, use, how):
    app.will(how, Answer({"predictions": [{"prediction": 1}]}))
    with pytest.raises(AimassError):
        use(predict)
    assert len(app.seen) == 1


def test_a_prediction_whose_answer_was_lost_says_that_it_may_be_charged(app, use):
    app.will(Drop)
    with pytest.raises(Unavailable, match="It may have been answered and charged: with an idempotency_key"):
        use(predict)


@pytest.mark.parametrize("how", [Drop, Answer({"predictions": []}, cut=4), error(502, "bad_gateway")])
def test_a_prediction_with_a_key_of_its_own_is(app, use, how):
    app.will(how, Answer({"predictions": [{"prediction": 1}]}))
    found = use(lambda client: client.predict("churn", [{"age": 41}], idempotency_key="order-7"))
    assert found == [{"prediction": 1}]
    assert [seen.headers["idempotency-key"] for seen in app.seen] == ["order-7"] * 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_prediction_that_was_turned_away_is_sent_again(app, use, status):
    app.will(error(status, "unavailable", **AT_ONCE), Answer({"predictions": [{"prediction": 1}]}))
    assert use(predict) == [{"prediction": 1}]
    assert len(app.seen) == 2
    assert all("idempotency-key" not in seen.headers for seen in app.seen)


def test_rows_are_sent_as_they_are_held(app, use):
    numpy = pytest.importorskip("numpy")
    app.will(Answer({"predictions": []}))
    use(lambda client: client.predict("a b", [{"age": numpy.float32(2.5), "gap": float("nan")}], version=3))
    assert app.seen[0].path == "/v1/models/a%20b/versions/3:predict"
    assert app.seen[0].json == {"instances": [{"age": 2.5, "gap": None}]}


def test_a_body_that_was_cut_is_asked_for_again(app, use):
    app.will(Answer(FILE, cut=10), Answer(FILE))
    assert use(lambda client: client.files.get("file-1")).id == "file-1"
    assert len(app.seen) == 2


def test_what_an_earlier_sending_removed_is_removed(app, use):
    app.will(Drop, error(404, "not_found"))
    assert use(lambda client: client.files.delete("file-1")) is None
    app.will(error(404, "not_found"))
    with pytest.raises(NotFound):
        use(lambda client: client.files.delete("file-1"))


def wait_until(condition):
    """Wait for what the server's thread does."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_a_slow_answer_ends_in_a_sentence(app, use, url):
    app.will(Answer(FILE, delay_s=1))
    with pytest.raises(Unavailable, match=f"{url} did not answer within 0.2 s"):
        use(lambda client: client.files.get("file-1"), timeout_s=0.2, max_retries=1)
    wait_until(lambda: len(app.seen) == 2)  # the server may read later than the client gives up


def test_nobody_answers():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with (
        Client(url, "am_0_x", max_retries=1) as client,
        pytest.raises(
            Unavailable, match=f"^no service answers at {url}; start one with `aimass up`, or log in elsewhere with `aimass login`$"
        ),
    ):
        client.files.get("file-1")


def test_lists_page_by_themselves(app, use):
    def page(ids, more):
        entries = [{**FILE, "id": name} for name in ids]
        return Answer({"object": "list", "data": entries, "first_id": ids[0], "last_id": ids[-1], "has_more": more})

    app.will(page(["c", "b"], True), page(["a"], False))
    assert [found.id for found in use(lambda client: client.files.list())] == ["c", "b", "a"]
    assert [seen.query for seen in app.seen] == ["limit=100", "after=b&limit=100"]

    app.will(page(["c", "b"], True), page(["a"], True))
    assert [found.id for found in use(lambda client: client.files.list(limit=3))] == ["c", "b", "a"]
    assert [seen.query for seen in app.seen] == ["limit=3", "after=b&limit=1"]

    app.will(Answer({"object": "list", "data": [], "has_more": False}))
    assert use(lambda client: client.jobs.list()) == []
    assert use(lambda client: client.files.list(limit=0)) == []
    assert len(app.seen) == 1


def test_an_upload_is_the_file_and_tells_how_far_it_is(app, use, file):
    told = []
    app.will(Answer(FILE))
    use(lambda client: client.files.upload(file, name='odd "name"\r\n.csv', progress=lambda gone, of: told.append((gone, of))))
    (seen,) = app.seen
    form = BytesParser().parsebytes(f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode() + seen.body)
    purpose, content = form.get_payload()
    assert purpose.get_payload() == "dataset"
    assert content.get_payload(decode=True) == file.read_bytes()
    assert content.get_filename() == "odd %22name%22%0D%0A.csv"
    assert int(seen.headers["content-length"]) == len(seen.body)
    size = file.stat().st_size
    assert told[-1] == (size, size)
    assert len(told) == 3


def test_a_model_goes_with_all_its_files(app, use, tmp_path):
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)))
    app.will(Answer({"id": "ver-1", "model": "churn", "version": 2}))
    assert use(lambda client: client.models.upload("churn", tmp_path)).version == 2
    (seen,) = app.seen
    form = BytesParser().parsebytes(f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode() + seen.body)
    found = {part.get_filename(): part.get_payload(decode=True) for part in form.get_payload()}
    assert found == {"model.json": b"{}", "model.safetensors": bytes(range(256))}
    with pytest.raises(NotFound, match=r"it has no model.json"):
        use(lambda client: client.models.upload("churn", tmp_path / "absent"))


def test_an_upload_that_cannot_be(app, use, tmp_path):
    with pytest.raises(NotFound, match=r"there is no file .*absent.csv"):
        use(upload(tmp_path / "absent.csv"))
    with pytest.raises(DataError, match="cannot be read"):
        use(upload(tmp_path))


def test_a_download_is_whole_or_not_there(app, use, tmp_path):
    told, path = [], tmp_path / "below" / "a.bin"
    app.will(Answer(b"x" * 100_000, cut=10), Answer(b"y" * 100_000))
    assert use(lambda client: client.files.download("file-1", path, progress=lambda *far: told.append(far))) == path
    assert path.read_bytes() == b"y" * 100_000
    assert told[-1] == (100_000, 100_000)

    app.will(Answer(b"x" * 100_000, cut=10))
    with pytest.raises(Unavailable, match="broke before the answer was whole"):
        use(lambda client: client.files.download("file-1", path), max_retries=0)
    app.will(error(404, "not_found"))
    with pytest.raises(NotFound):
        use(lambda client: client.files.download("file-1", path))
    assert path.read_bytes() == b"y" * 100_000
    assert [found.name for found in path.parent.iterdir()] == ["a.bin"]


def test_a_version_arrives_as_a_folder(app, use, tmp_path):
    content = {"model.json": b"{}", "model.safetensors": b"weights"}
    files = {name: {"sha256": hashlib.sha256(held).hexdigest(), "bytes": len(held)} for name, held in content.items()}
    version = {"id": "ver-1", "model": "churn", "version": 1, "files": files}
    sent = [Answer(version), Answer(content["model.json"]), Answer(content["model.safetensors"])]
    app.will(*sent)
    folder = use(lambda client: client.models.download("churn", tmp_path / "churn", version="production"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == content
    assert [seen.path for seen in app.seen] == [
        "/v1/registry/models/churn/versions/production",
        "/v1/registry/models/churn/versions/1/files/model.json",
        "/v1/registry/models/churn/versions/1/files/model.safetensors",
    ]
    app.will(*sent[:-1], Answer(b"others"))
    with pytest.raises(AimassError, match="did not arrive as it was kept"):
        use(lambda client: client.models.download("churn", tmp_path / "second", version="production"))
    app.will(Answer({**version, "files": {"../../evil": {"sha256": "0", "bytes": 1}}}), Answer(b"evil"))
    with pytest.raises(AimassError, match="lies in no model's folder"):
        use(lambda client: client.models.download("churn", tmp_path / "third", version=1))
    assert [path.name for path in tmp_path.iterdir()] == ["churn"]


def stream_of(*events, then=b""):
    lines = [f"id: {seq}\nevent: {kind}\ndata: {json.dumps({'seq': seq, 'type': kind, 'data': {}})}\n\n".encode() for seq, kind in events]
    return [*lines, then] if then else lines


DONE = b"event: done\ndata: {}\n\n"
JOB = {"id": "job-1", "status": "succeeded", "result": {"model": "churn", "version": 3}}


def test_events_go_on_where_the_connection_broke(app, use):
    app.will(
        Answer(pieces=[*stream_of((0, "a"), (1, "b")), b"id: 2\nevent: c\nda", Drop]),
        error(503, "unavailable", **AT_ONCE),
        Answer(pieces=stream_of((2, "c"))),
        Answer(pieces=[b": hello\n\n", *stream_of((3, "d"), then=DONE)]),
    )
    assert [(event.seq, event.type) for event in use(lambda client: client.jobs.events("job-1"))] == [
        (0, "a"),
        (1, "b"),
        (2, "c"),
        (3, "d"),
    ]
    assert [seen.headers.get("last-event-id") for seen in app.seen] == [None, "1", "1", "2"]
    assert {seen.headers["accept"] for seen in app.seen} == {"text/event-stream"}


def test_a_silent_stream_is_asked_for_again(app, use):
    silent, ended = Answer(pieces=[*stream_of((0, "a")), 5.0, DONE]), Answer(pieces=[DONE])
    app.will(lambda seen: ended if "last-event-id" in seen.headers else silent)
    found = use(lambda client: client.jobs.events("job-1"), timeout_s=0.3, max_retries=20)
    assert [event.seq for event in found] == [0]
    *first, last = [seen.headers.get("last-event-id") for seen in app.seen]
    assert (set(first), last) == ({None}, "0")  # where the machine is slow, even the first event may come late and be asked for again


def test_waiting_tells_each_event_and_ends_with_the_job(app, use):
    heard = []
    app.will(Answer(pieces=stream_of((0, "a"), (1, "b"), then=DONE)), Answer(JOB))
    job = use(lambda client: client.jobs.wait("job-1", on_event=lambda event: heard.append(event.type)))
    assert (job.status, job.result.version, heard) == ("succeeded", 3, ["a", "b"])

    app.will(
        Answer(pieces=[DONE]),
        Answer({**JOB, "status": "failed", "error": {"message": "the budget is used up", "code": "insufficient_quota"}}),
    )
    with pytest.raises(QuotaExceeded, match="job-1 failed: the budget is used up"):
        use(lambda client: client.jobs.wait("job-1"))
    app.will(Answer(pieces=[DONE]), Answer({**JOB, "status": "cancelled"}))
    with pytest.raises(AimassError, match="job-1 was cancelled"):
        use(lambda client: client.jobs.wait("job-1"))
    app.will(Answer(pieces=[*stream_of((0, "a")), 5.0]))
    with pytest.raises(TimeoutError, match=r"job-1 has not ended within 0.3 s; it goes on"):
        use(lambda client: client.jobs.wait("job-1", timeout_s=0.3))


def test_a_job_is_a_handle(app, url):
    with Client(url, "am_0_x") as client:
        app.will(Answer({**JOB, "status": "running"}))
        job = client.jobs.create(dataset="ds-1", config={"epochs": 3})
        assert app.seen[0].json == {"dataset": "ds-1", "config": {"epochs": 3}}
        app.will(Answer(pieces=[DONE]), Answer(JOB))
        assert job.wait().status == "succeeded"
        app.will(Answer(JOB))
        job.cancel(), job.resume(config={"epochs": 5}), job.refresh()
        assert [(seen.method, seen.path) for seen in app.seen] == [
            ("POST", "/v1/training/jobs/job-1/cancel"),
            ("POST", "/v1/training/jobs/job-1/resume"),
            ("GET", "/v1/training/jobs/job-1"),
        ]


@pytest.mark.parametrize("noun", [None, "files", "datasets", "jobs", "models", "deployments", "keys", "projects", "budgets"])
def test_both_clients_have_the_same_methods(noun):
    def names(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    with Client("http://127.0.0.1:1", "am_0_x") as client:
        waits, awaited = (client, AsyncClient(client.url, "am_0_x"))
        if noun is not None:
            waits, awaited = getattr(waits, noun), getattr(awaited, noun)
        assert names(waits) == names(awaited)


def test_a_method_explains_itself():
    with Client("http://127.0.0.1:1", "am_0_x") as client:
        assert inspect.getdoc(client.files.upload).startswith("Send a file, from the disk as it goes.")
        assert list(inspect.signature(client.files.upload).parameters) == ["path", "purpose", "name", "progress"]
