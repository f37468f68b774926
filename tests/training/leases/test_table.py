import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.layout import LEASE_OWNER, NEXT_LEASE, Layout
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.table import LeaseTable


@pytest.fixture
def table():
    update = build_update(OptimizerConfig(name="sgd"))
    layout = Layout(num_parameters=4, groups=((0, 4),), num_slots=3, num_cells=8)
    server = SharedMemoryServer.create(layout, update, lambda step: 1.0, slot=0)
    plan = LeasePlan(num_rows=40, batch_size=4, batches_per_lease=3, seed=0, total_batches=20)
    table = LeaseTable(server, plan, timeout_s=60)
    table.open(limit=100)
    return table


def commit(table, lease, count, slot=0):
    table.server.slot = slot
    for number in range(lease.committed, lease.committed + count):
        gradient = torch.zeros(4)
        assert table.server.push(gradient, 0, Ticket(lease.cell, lease.epoch, number + 1)) is Pushed.APPLIED


def test_leases_are_handed_out_in_order_up_to_the_limit(table):
    table.extend(2)
    assert [table.claim(slot).number for slot in (0, 1)] == [0, 1]
    assert table.claim(2) is None
    table.extend(3)
    assert table.claim(2).number == 2


def test_a_dead_workers_lease_goes_on_where_it_was_committed_and_its_old_ticket_is_refused(table):
    lease = table.claim(0)
    commit(table, lease, 2)
    (released,) = table.release(0)
    assert (released.number, released.committed, released.epoch) == (0, 2, lease.epoch + 1)
    again = table.claim(1)
    assert (again.number, again.committed, again.epoch) == (0, 2, lease.epoch + 1)
    table.server.slot = 0
    assert table.server.push(torch.zeros(4), 0, Ticket(lease.cell, lease.epoch, 3)) is Pushed.LEASE_LOST
    assert not table.holds(lease)
    assert table.holds(again)


def test_a_late_lease_is_taken_away_and_a_renewed_one_is_not(table):
    late, fresh = table.claim(0), table.claim(1)
    table._timeout_ns = -1
    table.renew(late.cell)
    table._timeout_ns = 60 * 10**9
    table.renew(fresh.cell)
    assert [lease.number for lease in table.revoke_late()] == [late.number]
    assert not table.holds(late)
    assert table.holds(fresh)


def test_a_counter_left_behind_by_a_killed_claim_hands_no_lease_out_twice(table):
    lease = table.claim(0)
    table.server.words[NEXT_LEASE] = lease.number  # killed before the counter was moved
    assert table.claim(1).number == lease.number + 1
    table.server.words[table._cells[lease.cell] + LEASE_OWNER] = -1  # killed before the owner was written
    assert table.claim(2).number == lease.number


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["claim", "commit", "die"]), st.integers(0, 2)), max_size=60))
def test_whatever_happens_the_counts_are_those_of_the_batches(actions):
    update = build_update(OptimizerConfig(name="sgd"))
    layout = Layout(num_parameters=4, groups=((0, 4),), num_slots=3, num_cells=8)
    server = SharedMemoryServer.create(layout, update, lambda step: 1.0, slot=0)
    plan = LeasePlan(num_rows=40, batch_size=4, batches_per_lease=3, seed=0, total_batches=20)
    table = LeaseTable(server, plan, timeout_s=60)
    table.open(limit=100)
    held, committed = {}, set()
    for action, slot in actions:
        if action == "claim" and slot not in held and (lease := table.claim(slot)):
            held[slot] = [lease, lease.committed]
        elif action == "commit" and slot in held:
            lease, done = held[slot]
            server.slot = slot
            assert server.push(torch.zeros(4), 0, Ticket(lease.cell, lease.epoch, done + 1)) is Pushed.APPLIED
            assert (lease.number, done) not in committed
            committed.add((lease.number, done))
            held[slot][1] += 1
            if done + 1 == lease.num_batches:
                del held[slot]
        elif action == "die":
            table.release(slot)
            held.pop(slot, None)
        assert table.committed_batches == len(committed) == server.clock
    whole = [
        e for e in range(2) if all((lease, b) in committed for lease in range(e * 4, e * 4 + 4) for b in range(plan.num_batches(lease)))
    ]
    assert table.epochs_done == (0 if 0 not in whole else len(whole))
    assert table.is_done == (len(committed) == 20)
    server.memory.close()
