"""SIGKILL and SIGSTOP of workers in about every round of all-reduce: the result is that of a run in which nobody suffered."""

import os
import signal

import pytest
import torch
from faults import departing, slicing
from faults.fate import QUOTA, WHERE
from training.strategies.test_allreduce import assert_same, plain_loop, settings

import aimass
from aimass.parameters.layout import GENERATION
from aimass.training import opening, trainer
from aimass.training.settling import settle
from aimass.training.workers import entry as worker_entry

NUM_KILLS = int(os.environ.get("AIMASS_SOAK_KILLS", "8"))


@pytest.fixture
def departures(monkeypatch):
    """Start runs whose workers die so many times; the figures are those of the last one."""

    class Departures:
        moments = departing.MOMENTS

        def divide(self):
            """Have workers die that have a part of the model each."""
            monkeypatch.setattr(worker_entry, "main", slicing.main)
            self.moments = slicing.MOMENTS

        def train(self, data, num_kills, chosen, folder):
            self.events = []
            run = trainer.Trainer(settle(chosen)[0], data, folder, self.events.append)
            run.opened, run.closed = run._open, run._close

            def open_with_kills():
                run.opened()
                run.server.words[run.server.layout.slot(0) + QUOTA] = num_kills

            def look_and_close():
                words, at = run.server.words, run.server.layout.slot(0) + WHERE
                self.where = {moment: words[at + i] for i, moment in enumerate(self.moments)}
                best = run.server.replica(run.server.best)
                self.states = [values.clone() for values in (best.p, *best.states)]
                self.clock, self.generation = run.server.clock, words[GENERATION]
                self.rows = run.counters.rows
                run.closed()

            run._open, run._close = open_with_kills, look_and_close
            assert run.run()[0] == "epochs"
            self.kills = sum(event.kind == "worker_lost" for event in self.events)
            self.num_rows = run.plan.num_leases // run.plan.leases_per_epoch * len(data.train)
            return run

    make = opening.Layout
    monkeypatch.setattr(opening, "Layout", lambda **plan: make(**{**plan, "shard_size": 400, "chunk_size": 150}))
    monkeypatch.setattr(worker_entry, "main", departing.main)
    return Departures()


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_a_death_in_about_every_round_leaves_plain_torch_on_the_rows_put_together(optimizer, departures, tmp_path):
    data = aimass.data.load("wine")
    chosen = settings(optimizer, epochs=3, batch_size=24)
    run = departures.train(data, 8, chosen, tmp_path)
    assert departures.kills >= 5
    assert departures.rows == departures.num_rows
    assert_same(run.learner, plain_loop(data, chosen))


@pytest.mark.soak
def test_any_number_of_deaths_leaves_the_bits_of_a_run_without_any(departures, tmp_path):
    """Also of dropout's random numbers, of clipping, and with two batches a part."""
    data = aimass.data.load("digits")
    chosen = settings(
        "adam", workers=3, epochs=4 + NUM_KILLS // 3, batch_size=64, clip=0.5, model={"name": "mlp", "hidden": [16], "dropout": 0.2}
    )
    chosen["strategy"] = {"name": "allreduce", "accumulate": 2}
    departures.train(data, 0, chosen, tmp_path / "unharmed")
    assert departures.kills == 0
    unharmed = departures.states, departures.clock
    departures.train(data, NUM_KILLS, chosen, tmp_path / "killed")
    print(f"{departures.kills} kills in {departures.clock} rounds: {departures.where}")
    assert departures.kills >= NUM_KILLS * 0.9
    assert departures.clock == unharmed[1]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(departures.states, unharmed[0], strict=True))


@pytest.mark.soak
@pytest.mark.timeout(300 + 5 * NUM_KILLS)
@pytest.mark.parametrize(("strategy", "clip"), [("pipeline", 0.5), ("sharded", 5.0)])
def test_any_number_of_deaths_leaves_a_divided_model_the_bits_of_a_run_without_any(strategy, clip, departures, tmp_path):
    data = aimass.data.load("wine")
    epochs = 2 + (NUM_KILLS if strategy == "pipeline" else 2 * NUM_KILLS)  # a round of `sharded` takes two batches
    chosen = settings("adam", epochs=epochs, clip=clip, model={"name": "mlp", "hidden": [16], "dropout": 0.2})
    chosen["strategy"] = strategy
    departures.divide()
    departures.train(data, 0, chosen, tmp_path / "unharmed")
    unharmed = departures.states, departures.clock
    departures.train(data, NUM_KILLS, chosen, tmp_path / "killed")
    print(f"{departures.kills} kills in {departures.clock} rounds: {departures.where}")
    assert departures.kills >= NUM_KILLS * 0.9
    assert departures.clock == unharmed[1]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(departures.states, unharmed[0], strict=True))


@pytest.mark.parametrize("strategy", ["allreduce", "pipeline"])
def test_a_stopped_worker_is_replaced_and_the_result_is_the_same(strategy, tmp_path):
    data = aimass.data.load("wine")
    chosen = {**settings("adam", epochs=6), "strategy": strategy}
    stopped = []

    def stop_the_first(event):
        events.append(event)
        if event.kind == "epoch" and not stopped:
            stopped.append(next(event.pid for event in events if event.kind == "worker_started"))
            os.kill(stopped[0], signal.SIGSTOP)

    events = []
    run = trainer.Trainer(settle(chosen)[0], data, tmp_path, stop_the_first)
    assert run.run()[0] == "epochs"
    assert len(stopped) == 1
    assert [event.pid for event in events if event.kind == "worker_stuck"] == stopped
    rounds = {**chosen, "strategy": "single", "workers": 0} if strategy == "pipeline" else chosen  # there both work on the same batch
    assert_same(run.learner, plain_loop(data, rounds))
