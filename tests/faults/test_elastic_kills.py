"""Workers that join, leave and are killed in any order: every batch counts once, and what is counted adds up."""

import os
import random
import signal
from contextlib import suppress

import pytest
import torch
from faults.test_kills import NUM_KILLS, Watched, data, integer_run  # noqa: F401 - fixtures
from training.plain import assert_same, train_plainly

import aimass
from aimass.training import trainer


@pytest.mark.soak
@pytest.mark.parametrize("strategy", ["async_sgd", {"name": "parameter_server", "staleness": 2}], ids=["async_sgd", "bounded staleness"])
def test_every_batch_counts_once_however_workers_join_leave_and_die(strategy, data, integer_run, tmp_path, monkeypatch):  # noqa: F811
    look, generator, seen = trainer.Trainer._look, random.Random(7), set()

    def scale_now_and_then(run):
        if run.leases.epochs_done not in seen or generator.random() < 0.2:
            seen.add(run.leases.epochs_done)
            run.wishes.ask(generator.randint(1, 3))
        look(run)

    monkeypatch.setattr(trainer.Trainer, "_look", scale_now_and_then)
    run = Watched(data, tmp_path, monkeypatch, NUM_KILLS // 3, epochs=NUM_KILLS // 2, workers=(1, 3), strategy=strategy)
    scaled, left, lost = ([event for event in run.events if event.kind == kind] for kind in ("scaled", "worker_left", "worker_lost"))
    print(f"{run.kills} kills, {len(scaled)} times scaled, {len(left)} workers left, {run.repairs} repairs: {run.where}")
    assert run.kills >= NUM_KILLS // 6
    assert len(lost) >= run.kills - run.where["anywhere"]  # a timer may find that its worker has left
    assert len(left) >= 2
    run.check()
    counters = run.trainer.summary
    total = run.trainer.plan.total_batches
    assert counters["steps"] == total
    assert total - run.kills <= sum(counters["staleness"]) <= total  # a push that another finished is not counted


def test_rounds_equal_plain_torch_however_workers_join_leave_and_die(monkeypatch):
    look, generator, seen = trainer.Trainer._look, random.Random(7), set()

    def scale_and_kill_now_and_then(run):
        """In every epoch, whose end waits for this."""
        pids = list(run._supervisor.pids().values())
        if pids and (run.leases.epochs_done not in seen or generator.random() < 0.1):
            seen.add(run.leases.epochs_done)
            run.wishes.ask(generator.randint(1, 3))
            with suppress(ProcessLookupError):  # one that was told to leave may have left
                os.kill(generator.choice(pids), signal.SIGKILL)
        look(run)

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
    assert told.count("scaled") >= 3
    assert told.count("worker_lost") >= 3
    assert_same(run.model, train_plainly(digits, settings, lambda parameters: torch.optim.Adam(parameters, lr=0.001), leases_at_once=3))
