"""SIGKILL of workers in about every round: the result is that of a run in which nobody died."""

import os

import pytest
import torch
from faults import mortal
from faults.fate import QUOTA, WHERE
from training.plain import assert_same, train_plainly

import aimass
from aimass.parameters.layout import SHARD_REPAIRS
from aimass.training import opening, trainer
from aimass.training.settling import settle
from aimass.training.workers import entry as worker_entry

NUM_KILLS = int(os.environ.get("AIMASS_SOAK_KILLS", "8"))
SMALL = {"shard_size": 400, "chunk_size": 150}  # so that a small model has several shards, of several chunks


@pytest.fixture
def mortals(monkeypatch):
    """Start runs whose workers die so many times; the figures are those of the last one."""

    class Mortals:
        def train(self, data, num_kills, settings, folder):
            self.events = []
            run = trainer.Trainer(settle(settings)[0], data, folder, self.events.append)
            run.opened, run.closed = run._open, run._close

            def open_with_kills():
                run.opened()
                run.server.words[run.server.layout.slot(0) + QUOTA] = num_kills

            def look_and_close():
                words, at = run.server.words, run.server.layout.slot(0) + WHERE
                self.where = {moment: words[at + i] for i, moment in enumerate(mortal.MOMENTS)}
                self.repairs = sum(words[shard.words + SHARD_REPAIRS] for shard in run.server.shards)
                self.p, self.clock = run.server.p.clone(), run.server.clock
                self.counted = run.counters.steps, run.counters.rows, run.counters.loss_rows
                run.closed()

            run._open, run._close = open_with_kills, look_and_close
            assert run.run()[0] == "epochs"
            self.kills = sum(event.kind == "worker_lost" for event in self.events)
            num_rows = run.plan.num_leases // run.plan.leases_per_epoch * len(data.train)
            assert self.counted == (run.plan.total_batches, num_rows, num_rows)
            return run

    make = opening.Layout
    monkeypatch.setattr(opening, "Layout", lambda **plan: make(**{**plan, **SMALL}))
    monkeypatch.setattr(worker_entry, "main", mortal.main)
    return Mortals()


@pytest.mark.parametrize(
    ("strategy", "optimizer", "reference"),
    [
        ("parameter_server", "sgd", lambda p: torch.optim.SGD(p, lr=0.05)),
        ("parameter_server", "momentum", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        ("parameter_server", "adam", lambda p: torch.optim.Adam(p, lr=0.05)),
        ("load_balanced_sgd", "momentum", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
    ],
)
def test_a_death_in_about_every_round_leaves_plain_torch_on_the_batches_put_together(strategy, optimizer, reference, mortals, tmp_path):
    data = aimass.data.load("wine")
    settings = {"model": {"name": "mlp", "hidden": [24]}, "strategy": strategy, "workers": 2, "batch_size": 24, "seed": 2}
    settings |= {"epochs": 3, "optimizer": {"name": optimizer, "lr": 0.05}}
    run = mortals.train(data, 9, settings, tmp_path)
    assert mortals.kills >= 5
    assert_same(run.learner, train_plainly(data, settings, reference, leases_at_once=2))


@pytest.mark.soak
def test_any_number_of_deaths_leaves_balanced_rounds_the_same_mean(mortals, tmp_path):
    """Whose share it was, and how large, changes the order of a sum and nothing else."""
    data = aimass.data.load("digits")
    settings = {"model": {"name": "mlp", "hidden": [16]}, "workers": 3, "batch_size": 64, "seed": 2, "strategy": "load_balanced_sgd"}
    settings |= {"optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 4 + NUM_KILLS // 2}
    run = mortals.train(data, NUM_KILLS, settings, tmp_path)
    print(f"{mortals.kills} kills, {mortals.repairs} repairs in {mortals.clock} rounds: {mortals.where}")
    assert mortals.kills >= NUM_KILLS * 0.9
    assert mortals.clock == settings["epochs"] * -(-run.plan.batches_per_epoch // 3)
    reference = train_plainly(data, settings, lambda p: torch.optim.SGD(p, lr=0.1), leases_at_once=3)
    assert_same(run.learner, reference, tolerance=2e-5)


@pytest.mark.soak
@pytest.mark.parametrize(
    "strategy",
    [{"name": "parameter_server", "sync_every": 2}, {"name": "incremental_sgd", "ordered": True, "rho": 3}],
    ids=["rounds", "tasks"],
)
def test_any_number_of_deaths_leaves_the_bits_of_a_run_without_any(strategy, mortals, tmp_path):
    """Also of dropout's random numbers, of clipping, of Adam's states, and with two batches a part."""
    data = aimass.data.load("digits")
    settings = {"model": {"name": "mlp", "hidden": [16], "dropout": 0.2}, "workers": 3, "batch_size": 64, "seed": 2, "clip": 0.5}
    settings |= {"strategy": strategy, "optimizer": "adam", "epochs": 4 + NUM_KILLS // 2}
    mortals.train(data, 0, settings, tmp_path / "unharmed")
    assert mortals.kills == 0
    unharmed = mortals.p, mortals.clock
    mortals.train(data, NUM_KILLS, settings, tmp_path / "killed")
    print(f"{mortals.kills} kills, {mortals.repairs} repairs in {mortals.clock} rounds: {mortals.where}")
    assert mortals.kills >= NUM_KILLS * 0.9
    assert mortals.clock == unharmed[1]
    assert torch.equal(mortals.p, unharmed[0])
