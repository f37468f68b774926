"""Stalls: who does not get on is named, with what it does and where; who merely waits is not."""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from processes import is_running

import aimass
from aimass.training.events import WorkerStalled
from aimass.training.health.operations import COMPUTING, EVALUATING, LEASING, NAMES, PUSHING, TENDING, WAITING
from aimass.training.health.stalls import Still, Watched, culprits, place_of
from aimass.training.showing.news import news
from aimass.training.workers import seats


def wait_for(run, kind, condition=lambda data: True, timeout_s=90):
    """The first event of a kind that fits."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for envelope in run.events():
            if envelope.type == kind and condition(envelope.data):
                return envelope.data
        time.sleep(0.02)
    raise AssertionError(f"there was no {kind} in {timeout_s} s: {[(e.type, e.data) for e in run.events() if e.type != 'progress']}")


class Sleeps(torch.nn.Linear):
    """In one process it sleeps once inside forward, until a file is there."""

    def __init__(self, folder, batch=20):
        super().__init__(13, 3)
        self.folder, self.batch, self.count = str(folder), batch, 0

    def forward(self, numbers):
        self.count += self.training
        if self.training and self.count == self.batch:
            with suppress(FileExistsError):
                # A link is there at once and whole: of two workers that get here together one sleeps.
                os.symlink(str(os.getpid()), Path(self.folder) / "asleep")
                wake = f"{self.folder}/wake"
                while not os.access(wake, os.F_OK):  # no function of Python's own, which could be where it is found
                    time.sleep(0.02)
        return super().forward(numbers)


def sleeper(folder):
    """The process that sleeps, if one does. Another may be slow to start or in its first batch, and be named for that."""
    return int(os.readlink(folder / "asleep")) if (folder / "asleep").is_symlink() else None


@pytest.mark.parametrize("batch", [1, 20])
def test_a_worker_asleep_in_forward_is_named_with_its_stack(batch, tmp_path):
    """Also where it fell asleep before anybody looked at it."""
    health = {"stall": 0.5}
    run = aimass.train(
        "wine", model=Sleeps(tmp_path, batch), workers=2, epochs=1_000_000, lease={"batches": 1, "timeout": 300}, health=health
    )
    stalled = wait_for(run, "worker_stalled", lambda data: data["operation"] == "computing" and data["pid"] == sleeper(tmp_path))
    assert not stalled["is_stopped"]
    assert stalled["worker"] in (0, 1)
    assert stalled["still_s"] >= 0.5
    assert "in forward" in stalled["stack"]
    assert stalled["place"].startswith(f"{__file__}:") or "forward" in stalled["place"]
    said = news(WorkerStalled(**stalled))
    assert said.startswith(f"worker {stalled['worker']} (process {stalled['pid']}) has not got on for ")
    assert f"it is computing in {__file__}" in said
    (tmp_path / "wake").touch()
    assert wait_for(run, "worker_recovered", lambda data: data["pid"] == stalled["pid"])["worker"] == stalled["worker"]
    run.cancel()
    run.wait()


def test_without_workers_the_run_s_own_process_is_named(tmp_path):
    run = aimass.train("wine", model=Sleeps(tmp_path), epochs=1_000_000, health={"stall": 0.3})
    stalled = wait_for(run, "worker_stalled", lambda data: "forward" in data["stack"])
    assert (stalled["worker"], stalled["pid"], stalled["operation"]) == (None, os.getpid(), "computing")
    assert __file__ in stalled["stack"]
    (tmp_path / "wake").touch()
    wait_for(run, "worker_recovered")
    run.cancel()
    run.wait()


def test_a_stopped_worker_is_named_before_it_is_killed_and_replaced(monkeypatch):
    monkeypatch.setattr(seats, "_STOPPED_S", 600.0)  # on a busy machine the thread that looks may come late
    run = aimass.train("digits", workers=2, epochs=100_000, health={"stall": 0.5})
    victim = wait_for(run, "worker_started", lambda data: data["worker"] == 1)["pid"]
    wait_for(run, "progress", lambda data: data["step"] > 0)
    os.kill(victim, signal.SIGSTOP)
    stalled = wait_for(run, "worker_stalled", lambda data: data["pid"] == victim and data["is_stopped"])
    assert (stalled["worker"], stalled["stack"]) == (1, None)
    assert news(WorkerStalled(**stalled)).endswith("it was stopped by a signal")
    monkeypatch.setattr(seats, "_STOPPED_S", 0.5)
    wait_for(run, "worker_started", lambda data: data["worker"] == 1 and data["pid"] != victim)
    run.cancel()
    run.wait()
    assert not is_running(victim)


def still(operation, worker=0, **more):
    return Still(worker=worker, pid=1, operation=operation, still_s=9.0, **more)


def test_who_waits_for_others_is_not_to_blame():
    computes, waits, leases, tends = still(COMPUTING), still(WAITING, 1), still(LEASING, 2), still(TENDING, None)
    assert culprits([computes, waits, leases], 0) == [computes]
    assert culprits([waits, leases], 1) == [], "somebody moves for whom they wait"
    assert culprits([waits, tends], 0) == [waits, tends], "nobody moves: all are told"
    holder, queue = still(PUSHING, 3, holds_lock=True), still(PUSHING, 4)
    assert culprits([holder, queue], 0) == [holder]
    assert culprits([queue], 0) == [queue]
    stopped = still(PUSHING, 5, is_stopped=True)
    assert culprits([computes, holder, stopped], 0) == [stopped]
    assert culprits([still(EVALUATING, None), waits], 0) == [still(EVALUATING, None)]


def test_steps_that_always_take_long_are_no_stall():
    watched, second = Watched(0.5), 1_000_000_000
    for number in range(1, 6):
        watched.see(COMPUTING, 2 * number * second)
        watched.see(PUSHING, (2 * number + 1) * second)
    assert watched.limit_s == 3.0, "thrice what its last ones took"
    watched.see(WAITING, 20 * second)
    assert watched.limit_s == 0.5


def test_every_operation_has_a_name_and_a_stack_a_place():
    assert (NAMES[COMPUTING], NAMES[TENDING], len(set(NAMES))) == ("computing", "tending the workers", len(NAMES))
    assert place_of(None) is None
    assert place_of("no frames") is None


def test_samples_of_each_process_are_kept_and_shown(tmp_path):
    model = {"name": "mlp", "hidden": [64]}
    run = aimass.train("digits", model=model, workers=2, epochs=100_000, health={"sample_every": 0.1}, home=tmp_path)
    wait_for(run, "workers_sampled", lambda data: {worker["worker"] for worker in data["workers"]} == {0, 1})
    wait_for(run, "workers_sampled", lambda data: any(worker["loss"] for worker in data["workers"]))
    run.cancel()
    run.wait()
    samples = run.samples()
    assert all(sample["driver"]["pid"] == os.getpid() for sample in samples)
    worker = next(worker for sample in samples for worker in sample["workers"] if worker["loss"])
    assert worker["rss_bytes"] > 1e7
    assert worker["cpu_percent"] >= 0
    assert worker["rows_per_s"] > 0
    assert worker["operation"] in NAMES
    json.dumps(samples)
