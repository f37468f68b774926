"""SIGKILL and SIGSTOP of workers that average their models: each batch is averaged once, and nobody waits for long."""

import os
import signal
from functools import partial

import pytest
import torch
from faults import killing, mortal
from faults.fate import QUOTA, WHERE
from faults.test_kills import data, expected_counts, expected_sum  # noqa: F401 - a fixture
from faults.test_runs import events_of, wait_until
from processes import is_running
from training.plain import assert_same, average_plainly, two_leases_at_once

import aimass
from aimass.parameters.layout import SHARD_OWNER, SHARD_REPAIRS
from aimass.training import opening, trainer
from aimass.training.settling import settle
from aimass.training.strategies.model_averaging import ModelAveragingConfig
from aimass.training.workers import entry as worker_entry

NUM_KILLS = int(os.environ.get("AIMASS_SOAK_KILLS", "12"))


def train_and_kill(monkeypatch, rows, settings, folder, entry):
    """A run whose workers die NUM_KILLS times, and what was found in the block before it was given back."""
    monkeypatch.setattr(opening, "Layout", killing.layout)
    monkeypatch.setattr(worker_entry, "main", entry)
    events, found = [], {}
    run = trainer.Trainer(settle(settings)[0], rows, folder, events.append)
    opened, closed = run._open, run._close

    def open_with_kills():
        opened()
        if entry is mortal.main_of_integers:
            run.server.p.zero_()
        run.server.words[run.server.layout.slot(0) + QUOTA] = NUM_KILLS

    def look_and_close():
        words, at = run.server.words, run.server.layout.slot(0) + WHERE
        found["where"] = {moment: words[at + i] for i, moment in enumerate(mortal.AVERAGE_MOMENTS)}
        found["repairs"] = sum(words[shard.words + SHARD_REPAIRS] for shard in run.server.shards)
        found["owners"] = [words[shard.words + SHARD_OWNER] for shard in run.server.shards]
        found["vectors"] = [vector.clone() for vector in (run.server.p, *run.server.states)]
        found["rounds"] = run.server.clock
        found["counted"] = run.counters.steps, run.counters.rows, run.counters.loss, run.counters.loss_weight
        closed()

    run._open, run._close = open_with_kills, look_and_close
    assert run.run()[0] == "epochs"
    kills = sum(event.kind == "worker_lost" for event in events)
    print(f"{kills} kills, {found['repairs']} repairs in {found['rounds']} rounds: {found['where']}")
    assert kills >= NUM_KILLS * 0.9
    assert not any(found["owners"])
    return run, found


@pytest.mark.soak
@pytest.mark.parametrize("strategy", [{"quorum": 1.0}, {"quorum": 0.3, "grace": 0}], ids=["all together", "each when it comes"])
def test_each_batch_is_averaged_once_however_workers_die(strategy, data, tmp_path, monkeypatch):  # noqa: F811
    """The changes of a round are added up, and are integers: p says which batches are in it, and so do both states."""
    monkeypatch.setattr(opening, "outer_update", lambda config: killing.IntegerUpdate())
    monkeypatch.setattr(ModelAveragingConfig, "sums_parts", True)
    settings = {"model": {"name": "mlp", "hidden": [24, 8]}, "workers": 3, "epochs": 2 + NUM_KILLS // 4, "batch_size": 64, "seed": 1}
    settings |= {"strategy": {"name": "model_averaging", "every": 2, **strategy}, "optimizer": {"name": "sgd", "lr": 1.0}}
    run, found = train_and_kill(monkeypatch, data, settings, tmp_path, mortal.main_of_integers)
    expected = -expected_sum(run, run.server.layout.num_parameters)
    for vector, times in zip(found["vectors"], (1, 1, 2), strict=True):
        assert torch.equal(vector, times * expected)
    assert found["counted"] == pytest.approx(expected_counts(run))


@pytest.mark.soak
@pytest.mark.parametrize("states", ["average", "reset"])
def test_states_are_averaged_with_p_or_begin_anew_however_workers_die(states, tmp_path, monkeypatch):
    """The one that takes a dead worker's place goes on with the states that all had after the last exchange."""
    strategy = {"name": "model_averaging", "quorum": 1.0, "every": 3, "states": states}
    settings = {"model": {"name": "mlp", "hidden": [24]}, "workers": 2, "epochs": 2 + NUM_KILLS // 2, "batch_size": 16, "seed": 1}
    settings |= {"strategy": strategy, "optimizer": {"name": "momentum", "lr": 0.05}}
    wine = aimass.data.load("wine")
    run, _ = train_and_kill(monkeypatch, wine, settings, tmp_path, mortal.main_of_averages)
    leases = partial(two_leases_at_once, per_batch=16)
    assert_same(run.learner, average_plainly(wine, settings, leases, reset=states == "reset"), tolerance=1e-5)


def test_workers_stop_come_and_go_and_the_run_is_resumed_where_it_was_cancelled():
    """Nobody waits for the one that is stopped, leases that are half done go on, and each batch is averaged once."""
    strategy = {"name": "model_averaging", "every": 3, "grace": 0.05}
    run = aimass.train("wine", strategy=strategy, workers=(2, 3), epochs=100_000, batch_size=4)
    wait_until(lambda: events_of(run, "epoch"))
    run.scale(3)
    wait_until(lambda: len(events_of(run, "worker_started")) >= 3)
    victim = events_of(run, "worker_started")[0]["pid"]
    os.kill(victim, signal.SIGSTOP)
    seen = len(events_of(run, "epoch"))
    wait_until(lambda: len(events_of(run, "epoch")) > seen + 2)
    run.scale(2)
    wait_until(lambda: len(events_of(run, "worker_started")) - len(events_of(run, "worker_lost")) - len(events_of(run, "worker_left")) == 2)
    run.cancel()
    run.wait()
    assert not is_running(victim)
    epochs, per_epoch = len(run.history()) + 2, -(-len(aimass.data.load("wine").train) // 4)
    resumed = run.resume(epochs=epochs).wait()
    assert resumed.metrics()["steps"] == epochs * per_epoch
    assert [entry["epoch"] for entry in resumed.history()][-2:] == [epochs - 1, epochs]
