"""SIGKILL of workers whose pushes are late: corrected, scaled and bounded pushes are as whole as plain ones."""

import os

import numpy as np
import pytest
import torch
from faults import killing, replaying

import aimass
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.compensation import build_compensation
from aimass.parameters.layout import SHARD_CLOCK, SHARD_REPAIRS, SLOT_HELD_NS
from aimass.training import opening, planes, trainer
from aimass.training.settling import settle
from aimass.training.workers import entry as worker_entry

NUM_KILLS = min(int(os.environ.get("AIMASS_SOAK_KILLS", "6")), 200)
NUM_WORKERS = replaying.NUM_WORKERS
NUM_PARAMETERS = 6 * 24 + 24 + 24 * 8 + 8 + 8 + 1
NUM_SHARDS = -(-NUM_PARAMETERS // killing.small_layout["shard_size"])


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    columns = {f"x{i}": generator.normal(size=4000) for i in range(6)}
    return aimass.data.load({**columns, "y": generator.normal(size=4000)}, "y", task="regression")


def train(data, folder, monkeypatch, look, num_kills=0, told=None, **settings):
    """A run of the real trainer, with a look at it before its block is given back."""
    settings = {"model": {"name": "mlp", "hidden": [24, 8]}, "workers": NUM_WORKERS, "batch_size": 64, "seed": 1, **settings}
    run = trainer.Trainer(settle(settings)[0], data, folder, told.append if told is not None else lambda event: None)
    opened, closed = trainer.Trainer._open, trainer.Trainer._close

    def open_with_kills(run):
        opened(run)
        for slot in range(NUM_WORKERS):
            run.server.words[run.server.layout.slot(slot) + killing.QUOTA] = -(-num_kills // NUM_WORKERS)
        run.start = run.server.p.clone()

    def look_and_close(run):
        try:
            look(run)
        finally:
            closed(run)

    monkeypatch.setattr(trainer.Trainer, "_open", open_with_kills)
    monkeypatch.setattr(trainer.Trainer, "_close", look_and_close)
    monkeypatch.setattr(opening, "Layout", killing.layout)
    assert run.run()[0] == "epochs"
    return run


def sum_of(server, word):
    return sum(server.words[server.layout.slot(slot) + word] for slot in range(NUM_WORKERS))


def expected_growth(run):
    """What p must have grown by: each batch once."""
    expected = torch.zeros(NUM_PARAMETERS)
    for lease in range(run.plan.num_leases):
        for batch in torch.from_numpy(run.data.train.encoded.rows[run.plan.rows(lease)]).split(run.plan.batch_size):
            expected += killing.integer_gradient(batch, NUM_PARAMETERS)
    return expected


def replay(record, server, start, optimizer, rate, compensation, scale_steps):
    """p and the states after every recorded push, one after another, in one process."""
    update, p = build_update(optimizer), start.clone()
    states = [torch.zeros_like(p) for _ in server.states]
    num_own = len(update.states)
    for shard in server.shards:
        for clock in range(server.words[shard.words + SHARD_CLOCK]):
            slot, number = divmod(int(record.order[shard.index, clock]), replaying.MOST_PUSHES)
            gradient, pulled = torch.from_numpy(record.gradient[slot, number]), torch.from_numpy(record.pulled[slot, number])
            lr = rate / (1 + int(record.tau[slot, number])) if scale_steps else rate
            here = slice(shard.start, shard.stop)
            parts = [state[here] for state in states]
            corrected = compensation.apply(gradient[here], p[here], pulled[here], parts[num_own:])
            update.apply(p[here], corrected, parts[:num_own], clock + 1, lr, 0.0)
    return [p, *states]


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "scale_steps"), [("constant", False), ("adaptive", True)])
def test_compensated_pushes_equal_a_serial_replay_to_the_bit_however_workers_die(kind, scale_steps, data, tmp_path, monkeypatch):
    record = replaying.Record(tmp_path / "record", NUM_PARAMETERS, NUM_SHARDS)
    monkeypatch.setattr(replaying.Recording, "record", record)
    monkeypatch.setattr(planes, "SharedMemoryServer", replaying.Recording)
    monkeypatch.setattr(worker_entry, "main", replaying.entry(record))
    found = {}

    def look(run):
        server = run.server
        found["kills"], found["repairs"] = sum_of(server, killing.KILLS), sum(server.words[s.words + SHARD_REPAIRS] for s in server.shards)
        found["clocks"] = {server.words[shard.words + SHARD_CLOCK] for shard in server.shards}
        found["late"] = sum(run.counters.staleness[1:])
        found["ours"] = [server.p.clone(), *[state.clone() for state in server.states]]
        optimizer = OptimizerConfig(name="adam", lr=0.01)
        found["replayed"] = replay(record, server, run.start, optimizer, 0.01, build_compensation(kind, None), scale_steps)

    strategy = {"name": "async_sgd", "compensation": kind, "scale_steps": scale_steps}
    optimizer = {"name": "adam", "lr": 0.01}
    run = train(data, tmp_path, monkeypatch, look, NUM_KILLS, epochs=NUM_KILLS // 2 + 4, strategy=strategy, optimizer=optimizer)
    print(f"{found['kills']} kills, {found['repairs']} repairs, {found['late']} late pushes of {run.plan.total_batches}")
    assert found["kills"] >= NUM_KILLS
    assert found["clocks"] == {run.plan.total_batches}, "each batch once, on every shard"
    assert found["late"] > 0
    for ours, replayed in zip(found["ours"], found["replayed"], strict=True):
        assert torch.equal(ours, replayed)


@pytest.mark.soak
@pytest.mark.parametrize("bound", [1, 3])
def test_the_bound_of_staleness_holds_at_every_step_however_workers_die(bound, data, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "build_update", lambda config: killing.IntegerUpdate())
    monkeypatch.setattr(worker_entry, "main", replaying.watched)
    found = {}

    def look(run):
        words, layout = run.server.words, run.server.layout
        found["worst"] = max(words[layout.slot(slot) + replaying.WORST_LEAD] for slot in range(NUM_WORKERS)) - 1
        found["kills"] = sum_of(run.server, killing.KILLS)
        found["grown"] = torch.round(run.server.p - run.start)

    strategy = {"name": "parameter_server", "staleness": bound}
    run = train(data, tmp_path, monkeypatch, look, NUM_KILLS, epochs=NUM_KILLS + 4, strategy=strategy)
    print(f"{found['kills']} kills, leads of up to {found['worst']}: {run.summary['largest_lead']}")
    assert found["kills"] >= NUM_KILLS
    assert 0 < found["worst"] <= run.summary["largest_lead"] <= bound
    assert torch.equal(found["grown"], expected_growth(run)), "each batch once"


@pytest.mark.parametrize("entry", [replaying.stop_in_step, replaying.stop_in_join])
def test_a_worker_that_stands_still_holds_the_others_back_only_until_it_is_killed(entry, data, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "build_update", lambda config: killing.IntegerUpdate())
    monkeypatch.setattr(worker_entry, "main", entry)
    found, events = {}, []

    def look(run):
        words, layout = run.server.words, run.server.layout
        found["stops"], found["grown"] = sum_of(run.server, replaying.STOPS), torch.round(run.server.p - run.start)
        found["held"] = [words[layout.slot(slot) + SLOT_HELD_NS] for slot in range(1, NUM_WORKERS)]

    strategy = {"name": "parameter_server", "staleness": 1}
    run = train(data, tmp_path, monkeypatch, look, told=events, epochs=8, strategy=strategy)
    assert found["stops"] == 1
    assert [event.worker for event in events if event.kind == "worker_stuck"] == [0]
    assert run.summary["largest_lead"] <= 1
    if entry is replaying.stop_in_step:
        assert min(found["held"]) > 0
    assert torch.equal(found["grown"], expected_growth(run)), "each batch once"
