"""SIGKILL of workers, many times, at chosen and at random moments: no batch is lost, none is applied twice, nothing hangs."""

import os

import numpy as np
import pytest
import torch
from faults import killing

import aimass
from aimass.parameters.layout import SHARD_OWNER, SHARD_REPAIRS
from aimass.training import opening, trainer
from aimass.training import worker as worker_module
from aimass.training.train import settle

NUM_KILLS = int(os.environ.get("AIMASS_SOAK_KILLS", "40"))
NUM_WORKERS = 2


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    columns = {f"x{i}": generator.normal(size=4000) for i in range(6)}
    return aimass.data.load({**columns, "y": generator.normal(size=4000)}, "y", task="regression")


@pytest.fixture
def integer_run(monkeypatch):
    monkeypatch.setattr(opening, "build_update", lambda config: killing.IntegerUpdate())
    monkeypatch.setattr(opening, "Layout", killing.layout)
    monkeypatch.setattr(worker_module, "main", killing.main)


def expected_sum(run, length):
    """What p must have grown by: each batch once."""
    ids = run.data.train.encoded.rows
    total = torch.zeros(length)
    for lease in range(run.plan.num_leases):
        rows = torch.from_numpy(ids[run.plan.rows(lease)])
        for batch in rows.split(run.plan.batch_size):
            total += killing.integer_gradient(batch, length)
    return total


@pytest.mark.soak
def test_every_batch_counts_once_however_workers_die(data, integer_run, tmp_path, monkeypatch):
    config, _ = settle(
        {"model": {"name": "mlp", "hidden": [24, 8]}, "workers": NUM_WORKERS, "epochs": 2 * NUM_KILLS, "batch_size": 64, "seed": 1}
    )
    events = []
    run = trainer.Trainer(config, data, tmp_path, events.append)
    opened = trainer.Trainer._open
    state = {}

    def open_with_kills(self):
        opened(self)
        state["p"] = self.server.p.clone()
        for slot in range(NUM_WORKERS):
            self.server.words[self.server.layout.slot(slot) + killing.QUOTA] = -(-NUM_KILLS // NUM_WORKERS)

    def note(self):
        words, layout = self.server.words, self.server.layout
        slots = [layout.slot(slot) for slot in range(NUM_WORKERS)]
        state["kills"] = sum(words[at + killing.KILLS] for at in slots)
        state["where"] = [sum(words[at + killing.WHERE + i] for at in slots) for i in range(len(killing.POINTS))]
        state["owners"] = [words[shard.words + SHARD_OWNER] for shard in self.server.shards]
        state["repairs"] = sum(words[shard.words + SHARD_REPAIRS] for shard in self.server.shards)
        state["grown"] = [self.server.p - state["p"], *[s.clone() for s in self.server.states]]
        state["clocks"] = [words[shard.words] for shard in self.server.shards]
        closed(self)

    closed = trainer.Trainer._close
    monkeypatch.setattr(trainer.Trainer, "_open", open_with_kills)
    monkeypatch.setattr(trainer.Trainer, "_close", note)
    reason, _ = run.run()

    print(f"{state['kills']} kills, {state['repairs']} repairs:", dict(zip(killing.POINTS, state["where"], strict=True)))
    assert reason == "epochs"
    assert state["kills"] >= NUM_KILLS
    assert sum(event.kind == "worker_lost" for event in events) >= NUM_KILLS * 0.9
    expected = expected_sum(run, run.server.layout.num_parameters)
    grown = torch.round(state["grown"][0])
    assert torch.equal(grown, expected)
    assert torch.equal(state["grown"][1], expected)
    assert torch.equal(state["grown"][2], 2 * expected)
    assert state["clocks"] == [run.plan.total_batches] * len(run.server.shards)
    assert not any(state["owners"])
