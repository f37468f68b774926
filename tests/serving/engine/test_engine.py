"""The engine as a process: what comes over its socket, and how it ends."""

import contextlib
import json
import signal
import socket
import stat
import subprocess
import sys
import textwrap

import msgspec
import psutil
import pytest
from serving.engine import models
from serving.engine.wire import WAIT_S, Engine, until

from aimass.models.config import CustomConfig
from aimass.models.model import Model
from aimass.serving.frames import Ask, frame

ROW = {"a": 1.5, "b": 0.001, "c": 2e6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Saved models: two that can be served, and some that cannot."""
    path = tmp_path_factory.mktemp("models")
    models.numeric().save(path / "numeric")
    models.mixed("regression", "mlp").save(path / "mixed")
    good = models.numeric()
    Model(module=good.module, encoder=good.encoder, config=CustomConfig(module="mine.Net")).save(path / "custom")
    (path / "none").mkdir()
    good.save(path / "cut")
    (path / "cut" / "model.safetensors").write_bytes(b"\0" * 9)
    good.save(path / "garbled")
    (path / "garbled" / "model.json").write_text('{"format": 1, "config": {"name": "linear"}, "encoder": [], "task": 3}')
    return path


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """One for the tests that leave it as it was, where a killed one left its socket."""
    folder = tmp_path_factory.mktemp("engine")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "engine.sock"))
    engine = Engine(folder)
    try:
        yield engine.wait_ready()
    finally:
        engine.stop()


@pytest.fixture
def wire(engine):
    wire = engine.connect()
    yield wire
    wire.close()


@pytest.fixture
def start(tmp_path):
    """Starts engines that a test may end."""
    started = []

    def begin(*options, **kwargs):
        home = tmp_path / str(len(started))
        home.mkdir()
        started.append(Engine(home, *options, **kwargs))
        return started[-1].wait_ready()

    yield begin
    for engine in started:
        engine.stop()


def test_a_model_is_loaded_asked_and_unloaded(wire, folder):
    header, body = wire.load("ver-a", folder / "numeric", name="churn", version=3)
    found = msgspec.msgpack.decode(body)
    assert header.status == 200
    assert found["signature"] == models.numeric().signature()
    status, reply = wire.predict("ver-a", [ROW])
    assert (status, reply["model"], reply["version"]) == (200, "churn", 3)
    assert reply["predictions"][0]["prediction"] == Model.load(folder / "numeric").predict([ROW])[0]["prediction"]
    held = next(each for each in wire.stats()["models"] if each["id"] == "ver-a")
    assert held == {"id": "ver-a", "bytes": found["bytes"], "requests": 1}
    assert wire.call("unload", "ver-a")[0].status == 200
    assert not [each for each in wire.stats()["models"] if each["id"] == "ver-a"]
    status, reply = wire.predict("ver-a", [ROW])
    assert (status, reply["error"]["code"]) == (503, "model_not_loaded")
    header, body = wire.call("unload", "ver-a")
    assert (header.status, json.loads(body)["error"]["code"]) == (503, "model_not_loaded")


def test_the_header_of_a_reply_tells_rows_time_and_batch(wire, folder):
    wire.load("ver-h", folder / "numeric")
    header, _ = wire.call("answer", "ver-h", "predict", body=json.dumps({"instances": [ROW] * 2000}).encode())
    assert (header.status, header.rows, header.batch_rows, header.json_length) == (200, 2000, 2000, 0)
    assert header.compute_us > 0
    header, _ = wire.call("answer", "ver-h", "predict", body=b"{")
    assert (header.status, header.rows, header.compute_us) == (400, 0, 0)


def test_what_arrives_together_runs_together_and_each_gets_its_own_answer(wire, folder):
    wire.load("ver-b", folder / "numeric")
    wire.load("ver-c", folder / "mixed")
    before = wire.stats()
    rows = [{**ROW, "a": float(number)} for number in range(50)]
    stream, bad = b"", json.dumps({"instances": [{**ROW, "a": "x"}]}).encode()
    for number, row in enumerate(rows):
        body = bad if number % 10 == 3 else json.dumps({"instances": [row]}).encode()
        stream += frame(Ask(1000 + number, "answer", "ver-c" if number % 10 == 7 else "ver-b", "predict"), body)
    wire.socket.sendall(stream)
    replies = [wire.reply(1000 + number) for number in range(50)]
    expected = Model.load(folder / "numeric").predict(rows)
    for number, (header, body) in enumerate(replies):
        if number % 10 in (3, 7):
            assert header.status == 422  # a value that is off, and a model with other columns
            continue
        assert header.status == 200
        answer = json.loads(body)["predictions"][0]
        assert answer["probabilities"] == pytest.approx(expected[number]["probabilities"], rel=1e-5)
    assert max(header.batch_rows for header, _ in replies) > 1
    assert wire.stats()["batches"] - before["batches"] < 50


def test_inference_with_bytes_goes_through_the_socket(wire, folder):
    wire.load("ver-i", folder / "numeric")
    head = {"name": "input", "shape": [1, 3], "datatype": "INT8", "parameters": {"binary_data_size": 3}}
    asked = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()
    header, body = wire.call("answer", "ver-i", "infer", len(asked), asked + b"\1\2\3")
    reply = json.loads(body[: header.json_length])
    assert (header.status, header.rows, reply["model_name"]) == (200, 1, "m")
    assert sum(output["parameters"]["binary_data_size"] for output in reply["outputs"]) == len(body) - header.json_length


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("absent", 404, "is no model"),
        ("none", 404, "is no model"),
        ("custom", 400, "a module of your own code"),
        ("cut", 422, "damaged or missing"),
        ("garbled", 422, "damaged"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_sentence(wire, folder, name, status, words):
    header, body = wire.load("ver-x", folder / name)
    assert header.status == status, body
    assert words in json.loads(body)["error"]["message"]
    assert wire.predict("ver-x", [ROW])[0] == 503


def test_orders_that_are_off_are_refused_with_a_sentence(wire, folder):
    header, body = wire.load("ver-x", folder / "numeric", max_batch=0)
    assert (header.status, "settings.max_batch=0" in json.loads(body)["error"]["message"]) == (400, True)
    header, body = wire.call("load", "ver-x", body=b"\xc1")
    assert (header.status, "cannot be read" in json.loads(body)["error"]["message"]) == (400, True)
    header, body = wire.call("dance")
    assert (header.status, "there is no operation 'dance'" in json.loads(body)["error"]["message"]) == (400, True)
    wire.load("ver-k", folder / "numeric")
    header, body = wire.call("answer", "ver-k", "guess", body=b"{}")
    assert (header.status, "there is no kind of request 'guess'" in json.loads(body)["error"]["message"]) == (400, True)


def test_settings_of_the_deployment_hold(wire, folder):
    wire.load("ver-s", folder / "numeric", max_rows=2)
    assert wire.predict("ver-s", [ROW] * 2)[0] == 200
    assert wire.predict("ver-s", [ROW] * 3)[0] == 413
    wire.load("ver-s", folder / "numeric", max_rows=3)  # of a model that is there: the newest hold
    assert wire.predict("ver-s", [ROW] * 3)[0] == 200


def test_several_connections_get_their_own_replies(engine, folder):
    first, second = engine.connect(), engine.connect()
    first.load("ver-2", folder / "numeric")
    a, b = (each.ask("answer", "ver-2", "predict", body=json.dumps({"instances": [ROW]}).encode()) for each in (first, second))
    assert a != b or first is not second
    assert second.reply(b)[0].status == first.reply(a)[0].status == 200
    first.close()
    assert second.predict("ver-2", [ROW])[0] == 200
    second.close()


def test_one_model_loaded_by_two_at_once_is_one(wire, folder):
    order = msgspec.msgpack.encode({"folder": str(folder / "numeric"), "name": "m", "version": 1})
    asks = [wire.ask("load", "ver-t", body=order) for _ in range(4)]
    assert {wire.reply(each)[1] for each in asks} == {wire.reply(wire.ask("load", "ver-t", body=order))[1]}
    assert [each["id"] for each in wire.stats()["models"]].count("ver-t") == 1


@pytest.mark.parametrize("noise", [b"\xff\xff\xff\xff", b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n" * 3])
def test_damaged_bytes_end_the_connection_and_not_the_engine(engine, wire, folder, noise):
    wire.load("ver-n", folder / "numeric")
    noisy = engine.connect()
    noisy.socket.sendall(noise)
    assert noisy.is_closed()
    noisy.close()
    assert wire.predict("ver-n", [ROW])[0] == 200


def test_a_gateway_that_is_gone_leaves_nothing_behind(engine, wire, folder):
    wire.load("ver-g", folder / "numeric")
    for _ in range(20):
        other = engine.connect()
        for _ in range(2):
            other.ask("answer", "ver-g", "predict", body=json.dumps({"instances": [ROW] * 500}).encode())
        other.close()
    assert wire.predict("ver-g", [ROW])[0] == 200
    until(lambda: wire.stats()["queued_rows"] == 0)


def test_a_gateway_that_does_not_read_does_not_stop_the_others(engine, wire, folder):
    wire.load("ver-r", folder / "numeric")
    slow = engine.connect()
    slow.socket.settimeout(1.0)
    body = json.dumps({"instances": [ROW] * 5000}).encode()
    with pytest.raises(TimeoutError):
        for _ in range(200):
            slow.ask("answer", "ver-r", "predict", body=body)
    assert wire.predict("ver-r", [ROW])[0] == 200
    slow.close()


def test_the_socket_is_for_this_user_alone(engine):
    assert stat.S_IMODE(engine.path.stat().st_mode) == 0o600


def test_stats_tell_how_the_engine_is(engine, wire):
    found = wire.stats()
    assert found["pid"] == engine.process.pid
    assert found["memory_bytes"] > 50_000_000
    assert found["queued_rows"] == 0
    assert found["started"] == pytest.approx(psutil.Process(engine.process.pid).create_time(), abs=120)
    assert found["cpu_s"] >= found["model_cpu_s"]


def test_models_beyond_the_budget_are_refused_until_others_are_gone(start, folder):
    wire = start("--memory", "600000").connect()
    assert wire.load("ver-1", folder / "numeric")[0].status == 200
    while (reply := wire.load(f"ver-{wire.ids}", folder / "numeric"))[0].status == 200:
        assert wire.ids < 10
    assert reply[0].status == 507
    assert "unload a model" in json.loads(reply[1])["error"]["message"]
    assert wire.call("unload", "ver-1")[0].status == 200
    wire.close()


def own_bytes(engine):
    """What an engine takes that is no file's: its share of the libraries changes with whoever else uses them."""
    memory = psutil.Process(engine.process.pid).memory_info()
    return memory.rss - memory.shared


def test_memory_comes_back_when_a_model_goes(engine, wire, tmp_path):
    models.numeric(family={"name": "mlp", "hidden": [3000, 3000]}).save(tmp_path / "large")
    before = own_bytes(engine)
    header, body = wire.load("ver-large", tmp_path / "large")
    assert header.status == 200
    size_bytes = msgspec.msgpack.decode(body)["bytes"]
    assert size_bytes >= 36_000_000
    assert own_bytes(engine) > before + 30_000_000
    assert wire.call("unload", "ver-large")[0].status == 200
    assert own_bytes(engine) < before + 10_000_000


def test_told_to_end_it_answers_what_it_has_and_leaves(start, folder):
    engine = start()
    wire = engine.connect()
    wire.load("ver-1", folder / "numeric", max_batch=10)
    body = json.dumps({"instances": [ROW] * 10}).encode()
    asks = [wire.ask("answer", "ver-1", "predict", body=body) for _ in range(200)]
    assert wire.reply(asks[0])[0].status == 200
    engine.process.send_signal(signal.SIGTERM)
    answered = 1
    with pytest.raises(EOFError):
        for each in asks[1:]:
            assert wire.reply(each)[0].status == 200
            answered += 1
        wire.reply(-1)
    assert answered >= 1
    assert engine.process.wait(WAIT_S) == 0
    assert not engine.path.exists()
    assert engine.process.stderr.read() == b""
    wire.close()


def test_a_gateway_may_come_back(engine, folder):
    first = engine.connect()
    first.load("ver-1", folder / "numeric")
    first.close()
    second = engine.connect()
    assert second.predict("ver-1", [ROW])[0] == 200
    second.close()


def test_without_a_gateway_it_leaves(start):
    engine = start("--idle-s", "1")
    with contextlib.suppress(OSError):  # on a slow machine it may have left before
        engine.connect().close()
    assert engine.process.wait(WAIT_S) == 0


def test_it_ends_when_its_standard_input_closes(start):
    engine = start()
    wire = engine.connect()
    engine.process.stdin.close()
    assert engine.process.wait(WAIT_S) == 0
    wire.close()


def test_it_does_not_outlive_a_parent_that_is_killed(tmp_path):
    code = f"""
        import subprocess, sys, time
        command = [sys.executable, "-m", "aimass.serving.engine", "--socket", {str(tmp_path / "s")!r}]
        engine = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        engine.stdout.readline()
        print(engine.pid, flush=True)
        time.sleep({WAIT_S})
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    try:
        engine = psutil.Process(int(parent.stdout.readline()))
        assert engine.is_running()
    finally:
        parent.kill()
        parent.wait(WAIT_S)
        parent.stdout.close()
    until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE)


def test_a_path_that_is_no_place_for_a_socket_is_said(tmp_path):
    command = [sys.executable, "-m", "aimass.serving.engine", "--socket"]
    done = subprocess.run(
        [*command, str(tmp_path / ("x" * 120))], capture_output=True, timeout=WAIT_S, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"engine: no socket can be made at")
    assert b"Traceback" not in done.stderr


def test_a_socket_that_a_killed_engine_left_is_taken_over(engine, wire):
    assert stat.S_ISSOCK(engine.path.stat().st_mode)
    assert wire.stats()["pid"] == engine.process.pid
