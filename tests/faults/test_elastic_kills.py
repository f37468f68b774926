"""Workers that join, leave and are killed in any order: every batch counts once, and what is counted adds up."""

import os
import random
import signal

import pytest
import torch
from faults.test_kills import NUM_KILLS, Watched, data, integer_run  # noqa: F401 - fixtures
from training.plain import assert_same, train_plainly

import aimass
from aimass.training import trainer


@pytest.mark.soak
def test_every_batch_counts_once_however_workers_join_leave_and_die(data, integer_run, tmp_path, monkeypatch):  # noqa: F811
    look, generator = trainer.Trainer._look, random.Random(7)

    def scale_now_and_then(run):
        look(run)
        if generator.random() < 0.2:
            run.wishes.ask(generator.randint(1, 3))

    monkeypatch.setattr(trainer.Trainer, "_look", scale_now_and_then)
    run = Watched(data, tmp_path, monkeypatch, NUM_KILLS // 4, epochs=NUM_KILLS // 2, workers=(1, 3))
    scaled, left, lost = ([event for event in run.events if event.kind == kind] for kind in ("scaled", "worker_left", "worker_lost"))
    print(f"{run.kills} kills, {len(scaled)} times scaled, {len(left)} workers left, {run.repairs} repairs: {run.where}")
    assert run.kills >= NUM_KILLS // 8
    assert len(lost) >= run.kills - run.where["anywhere"]  # a timer may find that its worker has left
    assert len(left) >= 5
    run.check()
    counters = run.trainer.summary
    total = run.trainer.plan.total_batches
    assert counters["steps"] == total
    assert total - run.kills <= sum(counters["staleness"]) <= total  # a push that another finished is not counted


def test_rounds_equal_plain_torch_however_workers_join_leave_and_die(monkeypatch):
    look, generator = trainer.Trainer._look, random.Random(7)

    def scale_and_kill_now_and_then(run):
        look(run)
        if generator.random() < 0.4:
            run.wishes.ask(generator.randint(1, 3))
        pids = list(run._supervisor.pids().values())
        if pids and generator.random() < 0.1:
            os.kill(generator.choice(pids), signal.SIGKILL)

    monkeypatch.setattr(trainer.Trainer, "_look", scale_and_kill_now_and_then)
    settings = {
        "strategy": "parameter_server",
        "model": {"name": "mlp", "hidden": [16]},
        "batch_size": 32,
        "optimizer": "adam",
        "lr": 0.001,
    }
    settings |= {"workers": (1, 3), "epochs": 12}
    digits = aimass.data.load("digits")
    run = aimass.train(digits, **settings).wait()
    told = [envelope.type for envelope in run.events()]
    print(f"{told.count('worker_lost')} lost, {told.count('worker_left')} left, {told.count('scaled')} times scaled")
    assert told.count("worker_left") >= 1
    assert told.count("worker_lost") >= 1
    assert_same(run.model, train_plainly(digits, settings, lambda parameters: torch.optim.Adam(parameters, lr=0.001), leases_at_once=3))
