"""The webhook: what it is sent, what happens when nobody listens, and that its address stays a secret."""

import json
import stat
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import aimass
from aimass.core.errors import UsageError
from aimass.training.run import Run

SECRET = "s3cr3t-token"


@contextmanager
def listening(*answers):
    """A server that answers with these statuses in turn, and the last one for ever; yields its address and what it was sent."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append({"path": self.path, "type": self.headers["content-type"], "body": json.loads(body), **self._more()})
            status = answers[min(len(received), len(answers)) - 1]
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def _more(self):
            return {"authorization": self.headers.get("authorization")}

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def everything_written(run):
    return "".join(path.read_text() for path in run.folder.rglob("*") if path.is_file() and path.suffix in (".jsonl", ".json", ".log"))


def failures(run):
    return [envelope.data["reason"] for envelope in run.events() if envelope.type == "webhook_failed"]


def test_divergence_going_back_and_the_end_are_posted(capsys):
    with listening(200) as (address, received):
        where = address.replace("://", f"://user:{SECRET}@") + f"/hook/{SECRET}?key={SECRET}"
        run = aimass.train("diabetes", model="linear", optimizer="sgd", lr=0.3, batch_size=8, epochs=20, health={"webhook": where}).wait()
    bodies = [post["body"] for post in received]
    assert bodies[0]["type"] == "diverged"
    assert bodies[1]["type"] == "rolled_back"
    assert bodies[-1]["type"] == "run_ended"
    assert {body["run"] for body in bodies} == {run.id}
    assert all(set(body) == {"run", "type", "time", "data", "text"} for body in bodies)
    assert bodies[1]["data"]["rate_factor"] == 0.5
    assert bodies[-1]["text"] == "succeeded: all 20 epochs are done"
    assert {(post["path"], post["type"]) for post in received} == {(f"/hook/{SECRET}?key={SECRET}", "application/json")}
    assert received[0]["authorization"] == "Basic dXNlcjpzM2NyM3QtdG9rZW4="
    assert failures(run) == []

    facts = run.folder / "run.json"
    assert stat.S_IMODE(facts.stat().st_mode) == 0o600
    facts.write_text(facts.read_text().replace(where, ""))
    assert SECRET not in everything_written(run)
    assert SECRET not in str(run.config) + repr(run.config) + run.config.model_dump_json() + "".join(capsys.readouterr())


def test_a_resumed_run_still_knows_the_address():
    with listening(200) as (address, received):
        run = aimass.train("iris", epochs=1, health={"webhook": address}).wait()
        Run.open(run.id).resume(epochs=2).wait()
    assert [post["body"]["type"] for post in received] == ["run_ended", "run_ended"]


def test_a_server_in_trouble_is_tried_again_and_one_that_refuses_is_not():
    with listening(503, 200) as (address, received):
        run = aimass.train("iris", epochs=1, health={"webhook": address}).wait()
    assert ([post["body"]["type"] for post in received], failures(run)) == (["run_ended", "run_ended"], [])
    with listening(404) as (address, received):
        run = aimass.train("iris", epochs=1, health={"webhook": address}).wait()
    assert (len(received), failures(run)) == (1, ["it answers with HTTP 404"])
    with listening(302) as (address, received):
        run = aimass.train("iris", epochs=1, health={"webhook": address}).wait()
    assert len(received) == 1
    assert "redirect" in failures(run)[0]


def test_where_nobody_listens_the_run_still_succeeds_and_says_so_once():
    with listening(200) as (address, _):
        pass
    run = aimass.train("iris", epochs=1, health={"webhook": f"{address}/{SECRET}"}).wait()
    assert (run.state, failures(run)) == ("succeeded", ["it refuses connections"])
    assert run.metrics()["reason"] == "epochs"


@pytest.mark.parametrize("address", ["http://a..b/", f"http://{'a' * 64}.org/", "https://.other.org/"])
def test_a_name_that_no_host_can_have_is_told_of(address):
    run = aimass.train("iris", epochs=1, health={"webhook": address + SECRET}).wait()
    assert failures(run) == ["its host has a name that no host can have"]


@pytest.mark.parametrize("address", ["ftp://other.org/", "file:///etc/passwd", "//other.org", "http://", "http://a b/", "x", "http://h:x/"])
def test_only_http_addresses_are_taken_and_what_is_refused_is_not_repeated(address):
    with pytest.raises(UsageError, match=r"health\.webhook.*a webhook is an http or https address") as refused:
        aimass.train("iris", epochs=1, health={"webhook": address})
    assert address == "x" or address not in str(refused.value)
