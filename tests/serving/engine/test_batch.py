import asyncio
import functools
import json

import pytest
from serving.engine import models
from serving.engine.asking import infer, loaded, together

from aimass.core.errors import NotFound
from aimass.serving.engine import batch
from aimass.serving.engine.batcher import Batcher
from aimass.serving.engine.models import Models
from aimass.serving.frames import Ask, FrameReader, Reply

ROW = {"a": 1.5, "b": 0.001, "c": 2e6}
BODY = json.dumps({"instances": [ROW]}).encode()
INPUT = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}


class Askers:
    """Keeps what it is sent."""

    def __init__(self):
        self.gone = False
        self.flushes = 0
        self._frames = FrameReader(Reply)
        self.replies = []

    def put(self, data):
        self.replies += self._frames.feed(data)

    def flush(self):
        self.flushes += 1


def on_a_loop(test):
    """Run an asynchronous test."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


@pytest.fixture
def two(tmp_path):
    """An engine's models: `one`, whose batches have at most four rows, and `other`."""
    models.numeric().save(tmp_path / "m")
    found = Models()
    found.load("one", tmp_path / "m", "m", 1, {"max_batch": 4})
    found.load("other", tmp_path / "m", "m", 2, {})
    return found


def test_answers_that_fit_into_no_frame_fail_their_request_alone(monkeypatch):
    monkeypatch.setattr(batch, "MOST_BODY_BYTES", 1000)
    many = json.dumps({"instances": [ROW] * 20}).encode()
    replies = together(loaded(models.numeric()), [BODY, many])
    assert [status for status, _ in replies] == [200, 413]
    assert "send fewer rows" in replies[1][1]["error"]["message"]


def test_an_accident_is_told_without_its_inside(monkeypatch, capsys):
    served = loaded(models.numeric())

    def fail(body, json_length):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(served.infer_reader, "read", fail)
    status, reply, _ = infer(served, INPUT)
    assert (status, reply["error"]["code"], reply["error"]["type"]) == (500, "internal", "server_error")
    assert "secret" not in reply["error"]["message"]
    assert "ZeroDivisionError: secret" in capsys.readouterr().err


@on_a_loop
async def test_both_kinds_run_in_one_batch(two):
    askers, ended = Askers(), []
    batcher = Batcher(two, lambda: ended.append(True))
    batcher.put(askers, Ask(1, "answer", "other", "predict"), BODY)
    batcher.put(askers, Ask(2, "answer", "other", "infer"), json.dumps(INPUT).encode())
    batcher.put(askers, Ask(3, "answer", "nobody", "predict"), BODY)
    assert batcher.queued_rows() == 3
    batcher.run()
    assert [(header.id, header.status, header.batch_rows) for header, _ in askers.replies] == [(1, 200, 2), (2, 200, 2), (3, 503, 0)]
    assert (batcher.is_empty, batcher.waiting_bytes, ended) == (True, 0, [True])
    assert askers.flushes == 2  # once a batch


@on_a_loop
async def test_batches_are_bounded_and_models_take_turns(two):
    askers = Askers()
    batcher = Batcher(two, lambda: None)
    for number in range(10):
        batcher.put(askers, Ask(number, "answer", "one", "predict"), BODY)
    batcher.put(askers, Ask(99, "answer", "other", "predict"), BODY)
    batcher.run()
    assert [header.id for header, _ in askers.replies] == [0, 1, 2, 3, 99]
    while not batcher.is_empty:
        await asyncio.sleep(0)
    assert [header.batch_rows for header, _ in askers.replies] == [4] * 4 + [1] + [4] * 4 + [2] * 2
    assert batcher.spent.rows == 11


@on_a_loop
async def test_a_request_larger_than_a_batch_runs_whole(two):
    askers = Askers()
    batcher = Batcher(two, lambda: None)
    batcher.put(askers, Ask(1, "answer", "one", "predict"), json.dumps({"instances": [ROW] * 9}).encode())
    batcher.run()
    assert [(header.status, header.rows) for header, _ in askers.replies] == [(200, 9)]


@on_a_loop
async def test_before_a_model_goes_what_waits_for_it_is_answered(two):
    askers = Askers()
    batcher = Batcher(two, lambda: None)
    for number in range(10):
        batcher.put(askers, Ask(number, "answer", "one", "predict"), BODY)
    batcher.finish("one")
    assert [header.status for header, _ in askers.replies] == [200] * 10


@on_a_loop
async def test_nobody_is_answered_who_is_gone(two):
    askers, gone = Askers(), Askers()
    batcher = Batcher(two, lambda: None)
    for number in range(4):
        batcher.put(gone if number % 2 else askers, Ask(number, "answer", "other", "predict"), BODY)
    gone.gone = True
    batcher.run()
    assert [header.id for header, _ in askers.replies] == [0, 2]
    assert (gone.replies, batcher.spent.rows, batcher.waiting_bytes) == ([], 2, 0)


def test_a_model_is_held_once_and_weighs_at_least_its_tensors(two, tmp_path):
    there = two.find("one")
    assert two.load("one", tmp_path / "elsewhere", "n", 5, {}) is there
    assert there.size_bytes > sum(tensor.nbytes for tensor in there.model.module.parameters())
    assert two.size_bytes == sum(each.size_bytes for each in two)
    two.unload("one")
    assert [each.id for each in two] == ["other"]
    with pytest.raises(NotFound):
        two.load("one", tmp_path / "elsewhere", "n", 5, {})
