"""SIGKILL of members and of supernodes, at every moment of an exchange: succession, and every row once."""

import os

import numpy as np
import pytest
import torch
from faults import killing, leading
from faults.fate import KILLS, QUOTA, WHERE
from training.plain import assert_same, train_plainly

import aimass
from aimass.parameters.layout import SHARD_CLOCK, SHARD_OWNER
from aimass.training import opening, planes, trainer
from aimass.training.settling import settle
from aimass.training.workers import entry as worker_entry

NUM_KILLS = int(os.environ.get("AIMASS_SOAK_KILLS", "12"))


@pytest.fixture
def train_and_kill(monkeypatch, tmp_path):
    """Start runs whose workers die so many times, with a look at the block before it is given back."""
    monkeypatch.setattr(opening, "Layout", killing.layout)

    def train(data, settings, entry, num_kills):
        monkeypatch.setattr(worker_entry, "main", entry)
        events = []
        run = trainer.Trainer(settle(settings)[0], data, tmp_path, events.append)
        opened, closed = run._open, run._close

        def open_with_kills():
            opened()
            run.server.words[run.server.layout.slot(0) + QUOTA] = num_kills

        def look_and_close():
            words, at = run.server.words, run.server.layout.slot(0)
            run.kills = words[at + KILLS]
            run.where = {moment: words[at + WHERE + i] for i, moment in enumerate(leading.MOMENTS)}
            run.owners = [words[shard.words + SHARD_OWNER] for shard in run.server.shards]
            run.clocks = [words[shard.words + SHARD_CLOCK] for shard in run.server.shards]
            run.grown = [state.clone() for state in run.server.states]
            run.counted = run.counters.steps, run.counters.rows, run.counters.loss_rows
            run.unfinished = run.leases.committed_batches - run.plan.total_batches
            closed()

        run._open, run._close = open_with_kills, look_and_close
        assert run.run()[0] == "epochs"
        num_rows = run.plan.num_leases // run.plan.leases_per_epoch * len(data.train)
        assert run.counted[1:] == (num_rows, num_rows)
        run.events = events
        return run

    return train


def test_deaths_in_one_group_leave_plain_torch_on_the_batches_put_together(train_and_kill):
    data = aimass.data.load("wine")
    settings = {"model": {"name": "mlp", "hidden": [24]}, "workers": 2, "batch_size": 24, "seed": 2, "epochs": 4}
    settings |= {"strategy": "supernode", "optimizer": {"name": "adam", "lr": 0.05}}
    run = train_and_kill(data, settings, leading.main, 6)
    assert run.kills >= 4
    assert_same(run.learner, train_plainly(data, settings, lambda p: torch.optim.Adam(p, lr=0.05), leases_at_once=1))


@pytest.mark.soak
@pytest.mark.parametrize("moves", [False, True], ids=["", "moving"])
def test_every_row_counts_once_however_members_and_supernodes_die(train_and_kill, monkeypatch, moves):
    if moves:
        monkeypatch.setattr(planes, "GroupTable", leading.RestlessTable)
    kills = NUM_KILLS // 2 if NUM_KILLS < 200 else NUM_KILLS
    generator = np.random.default_rng(0)
    columns = {f"x{i}": generator.normal(size=1600) for i in range(6)}
    data = aimass.data.load({**columns, "y": generator.normal(size=1600)}, "y", task="regression")
    monkeypatch.setattr(opening, "build_update", lambda config: leading.RowsUpdate())
    settings = {"model": {"name": "mlp", "hidden": [24, 8]}, "workers": 4, "batch_size": 64, "seed": 1, "epochs": 2 * kills}
    settings |= {"strategy": {"name": "supernode", "groups": 2}}
    run = train_and_kill(data, settings, leading.main_on_rows, kills)
    replaced = [event for event in run.events if event.kind == "supernode_replaced"]
    print(f"{run.kills} kills, {len(replaced)} supernodes replaced: {run.where}")
    assert run.kills >= kills * 0.9
    assert replaced
    exchanges = settings["epochs"] * len(data.train) // leading.ROWS
    rows = torch.from_numpy(data.train.encoded.rows)
    expected = settings["epochs"] * leading.of_rows(rows, run.learner.manifest.num_parameters).sum(0)
    assert torch.equal(run.grown[0], expected)
    assert torch.equal(run.grown[1], 2 * expected)
    assert run.clocks == [exchanges] * len(run.clocks)
    assert not any(run.owners)
    assert run.unfinished == 0
