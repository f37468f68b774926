"""What a run keeps, and what it can go back to."""

import os
import resource
import shutil
import signal
import threading
import time
from contextlib import nullcontext

import pytest
import torch
from torch import nn

import aimass
from aimass.core import files
from aimass.core.errors import Cancelled, StorageError
from aimass.models.tasks import task_of
from aimass.parameters.layout import STOP
from aimass.training import opening
from aimass.training.checkpoints import saving
from aimass.training.checkpoints.background import Background
from aimass.training.checkpoints.checkpoint import Checkpoints
from aimass.training.checkpoints.saving import Saver
from aimass.training.config import TrainConfig


def wait_until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def opened(config, data):
    torch.manual_seed(config.seed)
    learner = opening.open_learner(config, data, task_of(data.encoder), None)
    plan = opening.plan_leases(config, len(data.train))
    return learner, opening.open_server(config, learner, plan.total_batches)


def test_the_start_of_a_run_can_be_gone_back_to_without_a_checkpoint(tmp_path):
    config, data = TrainConfig.parse({"optimizer": {"name": "adagrad", "initial_accumulator": 0.5}, "seed": 3}), aimass.data.load("wine")
    learner, server = opened(config, data)
    generator, parameters, states = torch.get_rng_state(), server.p.clone(), [state.clone() for state in server.states]
    saver = Saver(config, tmp_path, learner, lambda event: None)
    assert saver.last() is None
    for clock in range(3):
        server.push(torch.rand_like(parameters), clock)
    assert not torch.equal(server.p, parameters)

    torch.manual_seed(config.seed)
    saver.restore(opening.first_state(config, data, None), server)
    assert torch.equal(server.p, parameters)
    assert [state.tolist() for state in server.states] == [state.tolist() for state in states]
    assert server.clock == 0
    saver.close()
    assert torch.equal(torch.get_rng_state(), generator)


def events_of(run, kind):
    return [envelope.data for envelope in run.events() if envelope.type == kind]


def whole_ones(run):
    return sorted(path.name for path in (run.folder / "checkpoints").glob("step-*"))


class Gate:
    """Keeps whoever writes a checkpoint waiting at its end, until it is opened."""

    def __init__(self, monkeypatch):
        self.open, self.waits = threading.Event(), threading.Event()
        put_in_place = files._put_in_place
        monkeypatch.setattr(files, "_put_in_place", lambda new, path: (self._wait(path), put_in_place(new, path)))

    def _wait(self, path):
        if path.name.startswith("step-"):
            self.waits.set()
            assert self.open.wait(60)


SLOW = {"model": {"name": "mlp", "dropout": 0.3}, "optimizer": "adam", "schedule": "cosine", "seed": 5, "epochs": 60}


def test_training_goes_on_while_a_checkpoint_is_written_and_resumes_from_it_to_the_bit(monkeypatch):
    whole = aimass.train("wine", **SLOW).wait()
    gate = Gate(monkeypatch)
    run = aimass.train("wine", **SLOW, checkpoint={"every": 1e-6, "keep": 100})
    assert gate.waits.wait(60)
    wait_until(lambda: len(run.history()) >= 20)  # it trains on, and takes no other meanwhile
    assert not events_of(run, "checkpoint")
    gate.open.set()
    run.wait()
    first, second, *_ = events_of(run, "checkpoint")
    assert first["step"] < 20 * 4 <= second["step"]

    folder = run.folder / "checkpoints"
    for newer in set(folder.iterdir()) - {folder / first["name"]}:
        shutil.rmtree(newer)
    again = run.resume().wait()
    assert events_of(again, "run_started")[-1]["resumed_at_step"] == first["step"]
    assert again.metrics()["steps"] == whole.metrics()["steps"]
    for (_, expected), (_, found) in zip(whole.model.module.named_parameters(), again.model.module.named_parameters(), strict=True):
        assert torch.equal(expected, found)
    assert [{**epoch, "rows_per_s": 0, "elapsed_s": 0} for epoch in again.history()] == [
        {**epoch, "rows_per_s": 0, "elapsed_s": 0} for epoch in whole.history()
    ]


class Breaks(nn.Module):
    """A network of one layer, which can be broken."""

    is_broken = False

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(13, 3)

    def forward(self, x):
        if Breaks.is_broken:
            raise RuntimeError("the network is broken")
        return self.layer(x)


def let_it_end(run):
    pass


def cancel(run):
    run.cancel()


def break_the_network(run):
    Breaks.is_broken = True


def interrupt(run):
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # the main thread waits for the run


ENDS = {
    "epochs": ({"epochs": 200}, let_it_end),
    "patience": ({"epochs": 100_000, "patience": 3, "lr": 1e-30}, let_it_end),
    "budget": ({"epochs": 100_000, "stop.budget": 1}, let_it_end),
    "cancelled": ({"epochs": 100_000}, cancel),
    "interrupted": ({"epochs": 100_000}, interrupt),
    "failed": ({"epochs": 100_000}, break_the_network),
}


@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_a_run_waits_for_the_write_under_way(monkeypatch, end):
    settings, bring_about = ENDS[end]
    monkeypatch.setattr(Breaks, "is_broken", False)
    gate = Gate(monkeypatch)
    run = aimass.train("wine", model=Breaks(), strategy="single", checkpoint={"every": 1e-6}, **settings)
    trainer, has_ended = run._trainer, []

    def end_it():
        assert gate.waits.wait(60)
        bring_about(run)
        wait_until(lambda: Breaks.is_broken or trainer.server.words[STOP])
        has_ended.append(run._done.is_set())
        gate.open.set()

    other = threading.Thread(target=end_it)
    other.start()
    expected = {"interrupted": pytest.raises(Cancelled), "failed": pytest.raises(RuntimeError, match="is broken")}
    with expected.get(end, nullcontext()):
        run.wait()
    other.join()
    assert has_ended == [False]
    kinds = [envelope.type for envelope in run.events()]
    assert kinds[-1] == "run_ended"
    assert "checkpoint" in kinds
    assert not list((run.folder / "checkpoints").glob(".unfinished-*"))
    checkpoint = saving.Checkpoints(run.folder / "checkpoints", keep=2).read_newest(trainer.learner.manifest)[0]
    assert end == "failed" or checkpoint.snapshot.clock == run.metrics()["steps"]


def test_a_better_epoch_does_not_reach_into_the_best_that_is_being_written(tmp_path, monkeypatch):
    config = TrainConfig.parse({"workers": 0, "checkpoint": {"every": 1e-6}})
    learner, server = opened(config, aimass.data.load("digits"))
    saver = Saver(config, tmp_path, learner, lambda event: None)

    def read_best():
        return saving.Checkpoints(tmp_path, keep=2).read_best(learner.manifest)

    def note(value):
        learner.parameters.fill_(value)
        saver.note_best({"epoch": value})

    note(1)
    gate = Gate(monkeypatch)
    wait_until(lambda: saver.tend(server, dict) or gate.waits.is_set())
    note(2)
    note(3)
    gate.open.set()
    saver.tend(server, dict, may_take=False)
    assert saver.last().snapshot.clock == 0
    assert (read_best().parameters == 1).all()
    saver.save(server, dict)
    saver.close()
    assert (read_best().parameters == 3).all()
    assert read_best().epoch == {"epoch": 3}


@pytest.mark.parametrize("workers", [0, 2])
def test_without_memory_for_a_copy_the_state_is_written_from_where_it_lies(monkeypatch, workers):
    monkeypatch.setattr(saving, "has_room", lambda size_bytes: False)
    run = aimass.train("wine", workers=workers, max_steps=400, checkpoint={"every": 1e-6}).wait()
    taken = events_of(run, "checkpoint")
    assert len(taken) > 1
    assert taken[0]["step"] < 400
    again = run.resume(max_steps=401).wait()
    assert again.metrics()["steps"] == 401


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_refuses_is_told_of_once_and_training_goes_on(workers):
    """Files of more than 500 kB are refused, now and then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def allow(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    run = aimass.train("wine", workers=workers, model={"name": "mlp", "hidden": [600, 600]}, epochs=100_000, checkpoint={"every": 0.02})
    try:
        wait_until(lambda: events_of(run, "checkpoint"))
        for times in (1, 2):
            allow(500_000)
            wait_until(lambda: len(events_of(run, "checkpoint_failed")) == times)  # noqa: B023
            failed_at, seen = events_of(run, "checkpoint_failed")[-1], len(run.history())
            wait_until(lambda: len(run.history()) > seen + 5)  # noqa: B023
            assert len(events_of(run, "checkpoint_failed")) == times
            assert "larger than this process may write" in failed_at["message"]
            if times == 1:
                allow(soft)
                told = len(events_of(run, "checkpoint"))
                wait_until(lambda: len(events_of(run, "checkpoint")) > told)  # noqa: B023
        before = whole_ones(run)
        run.cancel()
        with pytest.raises(StorageError, match="larger than this process may write"):
            run.wait()
    finally:
        allow(soft)
        run.cancel()
    assert run.state == "failed"
    assert StorageError.exit_code == 6
    assert whole_ones(run) == before
    assert not list((run.folder / "checkpoints").glob(".unfinished-*"))
    newest = int(before[-1].removeprefix("step-"))
    again = run.resume(epochs=-(-newest // 4) + 1).wait()
    assert events_of(again, "run_started")[-1]["resumed_at_step"] == newest


def test_no_checkpoint_tells_of_a_best_epoch_whose_model_is_not_on_the_disk(monkeypatch):
    write, best = Checkpoints.write, []

    def compare(checkpoints, checkpoint, manifest):
        told = [epoch["epoch"] for epoch in checkpoint.state["history"] if epoch["is_best"]]
        on_disk = checkpoints.read_best(manifest)
        best.append((told[-1] if told else None, on_disk.epoch["epoch"] if on_disk else None))
        return write(checkpoints, checkpoint, manifest)

    monkeypatch.setattr(Checkpoints, "write", compare)
    aimass.train("iris", epochs=3).wait()
    assert best[-1][0] is not None
    assert all(told == on_disk for told, on_disk in best)


def test_where_no_thread_may_be_nice_things_are_done_all_the_same(monkeypatch):
    def forbidden(*_):
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    thread = Background("strict")
    assert thread.do(lambda: 6 * 7).result(10) == 42
    thread.close()
