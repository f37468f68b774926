"""SIGKILL of workers, many times, at chosen and at random moments: no batch is lost, none is applied twice, nothing hangs."""

import os

import numpy as np
import pytest
import torch
from faults import killing

import aimass
from aimass.core.errors import TrainingError
from aimass.parameters.layout import SHARD_CLOCK, SHARD_OWNER, SHARD_REPAIRS
from aimass.training import opening, trainer
from aimass.training.settling import fit_model, settle
from aimass.training.workers import entry as worker_entry

NUM_KILLS = int(os.environ.get("AIMASS_SOAK_KILLS", "24"))
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
    monkeypatch.setattr(worker_entry, "main", killing.main)


def batches_of(run):
    """The rows of each batch of a run."""
    ids = run.data.train.encoded.rows
    for lease in range(run.plan.num_leases):
        yield from torch.from_numpy(ids[run.plan.rows(lease)]).split(run.plan.batch_size)


def expected_sum(run, length):
    """What p must have grown by: each batch once."""
    total = torch.zeros(length)
    for batch in batches_of(run):
        total += killing.integer_gradient(batch, length)
    return total


def expected_counts(run):
    """What must have been counted: each batch once. Steps, rows, the sum of the rows' losses, and the rows of that."""
    sizes, losses = zip(*((len(batch), killing.integer_loss(batch)) for batch in batches_of(run)), strict=True)
    summed = sum(size * loss for size, loss in zip(sizes, losses, strict=True))
    return len(sizes), sum(sizes), summed, sum(sizes)


class Watched:
    """A run of the real trainer on integers, with a look at the block before it is given back."""

    def __init__(self, data, folder, monkeypatch, num_kills, epochs, **changes):
        settings = {"model": {"name": "mlp", "hidden": [24, 8]}, "workers": NUM_WORKERS, "epochs": epochs, "batch_size": 64, "seed": 1}
        settings |= changes
        self.events = []
        config, data = fit_model(settle(settings)[0], data)
        self.trainer = trainer.Trainer(config, data, folder, self.events.append)
        opened, closed = trainer.Trainer._open, trainer.Trainer._close

        def open_with_kills(run):
            opened(run)
            run.server.p.zero_()  # so that whole numbers stay whole
            num_slots = run.server.layout.num_slots
            for slot in range(num_slots):
                run.server.words[run.server.layout.slot(slot) + killing.QUOTA] = (num_kills + slot) // num_slots

        def look_and_close(run):
            words, layout, shards = run.server.words, run.server.layout, run.server.shards
            slots = [layout.slot(slot) for slot in range(layout.num_slots)]
            self.kills = sum(words[at + killing.KILLS] for at in slots)
            self.where = {point: sum(words[at + killing.WHERE + i] for at in slots) for i, point in enumerate(killing.POINTS)}
            self.owners = [words[shard.words + SHARD_OWNER] for shard in shards]
            self.repairs = sum(words[shard.words + SHARD_REPAIRS] for shard in shards)
            self.clocks = [words[shard.words + SHARD_CLOCK] for shard in shards]
            self.counted = run.counters.steps, run.counters.rows, run.counters.loss, run.counters.loss_weight
            self.grown = [run.server.p.clone(), *[state.clone() for state in run.server.states]]
            closed(run)

        monkeypatch.setattr(trainer.Trainer, "_open", open_with_kills)
        monkeypatch.setattr(trainer.Trainer, "_close", look_and_close)
        self.reason, _ = self.trainer.run()

    def check(self, times=1):
        """Every batch once, so many times its gradient: in p, in each state, in each shard's clock; and nobody holds anything."""
        assert self.reason == "epochs"
        expected = times * expected_sum(self.trainer, self.trainer.server.layout.num_parameters)
        assert torch.equal(self.grown[0], expected)
        assert torch.equal(self.grown[1], expected)
        assert torch.equal(self.grown[2], 2 * expected)
        assert self.clocks == [self.trainer.plan.total_batches] * len(self.clocks)
        assert self.counted == expected_counts(self.trainer)
        assert not any(self.owners)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("strategy", "times"),
    [({"name": "async_sgd"}, 1), ({"name": "async_sgd", "wait": True}, 1), ({"name": "ensemble", "models": 2}, 2)],
    ids=["push and go on", "wait", "ensemble"],
)
def test_every_batch_counts_once_however_workers_die(strategy, times, data, integer_run, tmp_path, monkeypatch):
    """An ensemble's gradient is of the sum of its models' losses."""
    num_kills = NUM_KILLS // 2 if NUM_KILLS < 200 else NUM_KILLS
    run = Watched(data, tmp_path, monkeypatch, num_kills, epochs=2 * num_kills, strategy=strategy)
    print(f"{run.kills} kills, {run.repairs} repairs: {run.where}")
    assert run.kills >= num_kills
    assert sum(event.kind == "worker_lost" for event in run.events) >= num_kills * 0.9
    run.check(times)


@pytest.mark.soak
def test_every_batch_moves_one_block_once_however_their_owners_die(data, integer_run, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_entry, "main", killing.die_in_blocks)
    num_kills = NUM_KILLS // 2 if NUM_KILLS < 200 else NUM_KILLS
    run = Watched(data, tmp_path, monkeypatch, num_kills, epochs=2 * num_kills, strategy="block_async_sgd")
    print(f"{run.kills} kills, {run.repairs} repairs: {run.where}")
    assert run.kills >= num_kills
    assert sum(run.clocks) == run.trainer.plan.total_batches
    assert run.counted[:2] == expected_counts(run.trainer)[:2]
    cuts = run.trainer.server.layout.cuts
    expected = torch.cat(
        [torch.full((stop - start,), float(clock)) for start, stop, clock in zip(cuts, cuts[1:], run.clocks, strict=False)]
    )
    assert torch.equal(run.grown[0], expected)
    assert torch.equal(run.grown[1], expected)
    assert torch.equal(run.grown[2], 2 * expected)
    assert not any(run.owners)


@pytest.mark.soak
@pytest.mark.parametrize(("combine", "share"), [("sum", 1.0), ("mean", 1 / NUM_WORKERS)])
def test_every_task_counts_once_however_workers_die(combine, share, data, integer_run, tmp_path, monkeypatch):
    """A task of two batches is one push, whose change is what its own steps at a rate of 1 came to."""
    monkeypatch.setattr(worker_entry, "main", killing.die_in_tasks)
    strategy = {"name": "incremental_sgd", "combine": combine, "rho": 12}
    optimizer = {"name": "sgd", "lr": 1.0}
    num_kills = NUM_KILLS // 4 if NUM_KILLS < 200 else NUM_KILLS
    run = Watched(data, tmp_path, monkeypatch, num_kills, epochs=2 * num_kills, strategy=strategy, optimizer=optimizer)
    plan, length = run.trainer.plan, run.trainer.server.layout.num_parameters
    told = [event for event in run.events if event.kind == "tasks_done"]
    print(f"{run.kills} kills, {run.repairs} repairs, {sum(len(event.taken_again) for event in told)} tasks again: {run.where}")
    assert run.kills >= num_kills
    assert plan.batches_per_lease == 2
    assert torch.equal(run.grown[0], -share * expected_sum(run.trainer, length))
    assert run.counted == expected_counts(run.trainer)
    assert run.clocks == [plan.num_leases] * len(run.clocks)
    assert not any(run.owners)
    assert [sum(event.counts.values()) for event in told] == [plan.leases_per_epoch] * (2 * num_kills)
    reassigned = {event.lease for event in run.events if event.kind == "lease_reassigned"}
    assert reassigned >= {int(task) for event in told for task in event.taken_again}


@pytest.mark.parametrize(("entry", "wait"), [(killing.stop_in_push, False), (killing.stop_in_claim, False), (killing.stop_in_push, True)])
def test_a_worker_that_stands_still_with_a_lock_is_killed_and_its_work_is_finished(entry, wait, data, integer_run, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_entry, "main", entry)
    run = Watched(data, tmp_path, monkeypatch, num_kills=1, epochs=6, strategy={"name": "async_sgd", "wait": wait})
    stuck = [event for event in run.events if event.kind == "worker_stuck"]
    assert len(stuck) == run.kills == 1
    assert stuck[0].stuck_s >= 2
    run.check()


@pytest.mark.parametrize("strategy", [{"name": "async_sgd"}, {"name": "async_sgd", "wait": True}, {"name": "block_async_sgd"}])
def test_workers_that_always_die_inside_their_push_end_the_run(strategy, data, integer_run, tmp_path, monkeypatch):
    """What is finished for each of them is a batch done, but nothing that they get on with."""
    monkeypatch.setattr(worker_entry, "main", killing.die_in_every_push)
    with pytest.raises(TrainingError, match="without finishing a batch, the last one killed by SIGKILL"):
        Watched(data, tmp_path, monkeypatch, num_kills=1000, epochs=40, strategy=strategy)


def test_a_seat_whose_workers_always_die_inside_their_push_is_given_up_where_others_go_on(data, integer_run, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_entry, "main", killing.die_in_every_push_but_first)
    run = Watched(data, tmp_path, monkeypatch, num_kills=1000, epochs=40, strategy="async_sgd", workers=(1, 2))
    given_up = [event for event in run.events if event.kind == "scaled"]
    assert [(event.workers, event.before) for event in given_up] == [(1, 2)]
    assert "worker 1 died 3 times before its first step" in given_up[0].reason
    run.check()
