"""Who computes what in each round: every batch once, in order, whatever a run came with."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.layout import CELL_WORDS, LEASE_COMMITTED, LEASE_NUMBER, LEASE_OWNER, NOBODY, STOP, Layout
from aimass.parameters.replicas import DONE, NUM_EXTRAS, ReplicaServer
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.replicas import ReplicaTable

plans = st.builds(
    LeasePlan,
    num_rows=st.integers(1, 120),
    batch_size=st.integers(1, 20),
    batches_per_lease=st.integers(1, 5),
    seed=st.just(0),
    total_batches=st.integers(1, 60),
)


def make_table(plan, num_slots, accumulate=1, timeout_s=60.0, snapshot=None, num_cells=40):
    update = build_update(OptimizerConfig(name="sgd"))
    layout = Layout(
        num_parameters=4, groups=((0, 4),), num_slots=num_slots, num_cells=num_cells, num_replicas=num_slots, num_extras=NUM_EXTRAS
    )
    server = ReplicaServer.create(layout, update, lambda done: 0.1)
    if snapshot is not None:
        server.restore(snapshot)
    table = ReplicaTable(server, plan, timeout_s, accumulate)
    table.release_all()
    table.open(10**6)
    return table


def set_done(table, done):
    for slot in range(table.server.layout.num_slots):
        table.words[table.server.layout.slot(slot) + DONE] = done


def rounds_of(table):
    """The parts of all workers in each round, to the end of the run; the replicas hold what is done."""
    set_done(table, table.replicas.done)
    while not table.is_done:
        parts = [table.part(slot) for slot in range(table.server.layout.num_slots)]
        assert len({(part.done, part.num_rows) for part in parts}) == 1
        yield parts
        set_done(table, parts[0].done)


@settings(deadline=None, max_examples=40)
@given(plan=plans, num_slots=st.integers(1, 4), accumulate=st.integers(1, 3))
def test_rounds_hold_every_batch_once_in_order_and_never_two_epochs(plan, num_slots, accumulate):
    table = make_table(plan, num_slots, accumulate)
    batches = []
    for parts in rounds_of(table):
        together = [number for part in parts for number in part.batches]
        assert len({number // plan.batches_per_epoch for number in together}) == 1
        assert max(len(part.batches) for part in parts) <= accumulate
        assert parts[0].num_rows == sum(len(table.rows(number)) for number in together) == sum(map(table.rows_in, together))
        batches += together
    assert batches == list(range(plan.total_batches))
    assert all(table.part(slot) is None for slot in range(num_slots))


@settings(deadline=None, max_examples=40)
@given(plan=plans, num_slots=st.integers(1, 4), data=st.data())
def test_what_other_strategies_left_undone_is_done_first_and_a_snapshot_says_what_is_left(plan, num_slots, data):
    following = data.draw(st.integers(0, plan.num_leases))
    begun = data.draw(st.lists(st.integers(0, following - 1), unique=True, max_size=3)) if following else []
    committed = {lease: data.draw(st.integers(0, plan.num_batches(lease))) for lease in begun}
    undone = [plan.first_batch(lease) + i for lease, done in committed.items() for i in range(done, plan.num_batches(lease))]
    undone += range(plan.first_batch(following), plan.total_batches)
    empty = make_table(plan, num_slots).server.snapshot()
    empty.cells, empty.next_lease = [cell(lease, done) for lease, done in committed.items()], following
    table = make_table(plan, num_slots, snapshot=empty)
    batches, looks_at = [], data.draw(st.integers(0, 20))
    for index, parts in enumerate(rounds_of(table)):
        if index == looks_at:
            left = make_table(plan, num_slots + 1, snapshot=table.server.snapshot())
            assert left.committed_batches == table.committed_batches
            assert sorted(undone) == sorted([*batches, *[number for again in rounds_of(left) for part in again for number in part.batches]])
        batches += [number for part in parts for number in part.batches]
    assert batches == sorted(undone)


def cell(number, committed):
    words = [0] * CELL_WORDS
    words[LEASE_NUMBER], words[LEASE_OWNER], words[LEASE_COMMITTED] = number, NOBODY, committed
    return words


@pytest.fixture
def table():
    plan = LeasePlan(num_rows=40, batch_size=4, batches_per_lease=3, seed=0, total_batches=20)
    return make_table(plan, num_slots=2, timeout_s=0.001)


def test_rounds_go_no_further_than_the_limit_and_it_stays_once_the_run_stops(table):
    table.extend(2)
    set_done(table, 4)
    assert table.part(0).done == 6
    set_done(table, 6)
    assert table.part(0) is None
    table.extend(3)
    assert table.part(0).done == 8
    table.words[STOP] = 1
    table.extend(10)
    set_done(table, 8)
    assert table.part(0) is None


def test_whoever_takes_too_long_for_its_part_is_late_until_it_is_done(table):
    assert table.late() == []
    table.begin(1)
    while not table.late():
        time.sleep(0.001)
    assert table.late() == [1]
    table.put_off(3600)  # as after a pause of the driver's
    assert table.late() == []
    table.put_off(-3600)
    assert table.late() == [1]
    table.end(1)
    table.put_off(-3600)  # it has no deadline any more
    assert table.late() == []
    table.begin(1)
    table.server.recover(1)  # as after its death
    assert table.late() == []


def test_the_batches_of_the_furthest_replica_are_committed(table):
    table.words[table.server.layout.slot(1) + DONE] = 13
    assert table.committed_batches == 13
    assert table.epochs_done == 1
    assert not table.is_done
