"""Leases of groups: whose they are, who goes on with them, and who is late."""

import pytest

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Ticket
from aimass.parameters.groups import EXCHANGE, HANDED_IN, PRESENT, SHARE_DEADLINE_NS, SHARE_EXCHANGE, GroupServer
from aimass.parameters.layout import LEASE_DEADLINE_NS, Layout
from aimass.training.leases.groups import GroupTable
from aimass.training.leases.plan import LeasePlan

LAYOUT = Layout(num_parameters=8, groups=((0, 8),), num_slots=6, num_groups=2)  # workers 0 to 3, and the groups' slots 4 and 5
PLAN = LeasePlan(num_rows=64, batch_size=4, batches_per_lease=4, seed=0, total_batches=16)


class Place:
    """The driver's table, and each member's handle, in one process."""

    def __init__(self):
        update = build_update(OptimizerConfig(name="sgd"))
        self.driver = GroupServer.create(LAYOUT, update, lambda step: 0.1)
        self.members = [GroupServer(self.driver.memory, LAYOUT, update, lambda step: 0.1, slot=slot) for slot in range(4)]
        self.table = GroupTable(self.driver, PLAN, 60.0)
        self.table.open(4)
        self.words = self.driver.words
        for slot in range(4):
            self.words[LAYOUT.slot(slot) + PRESENT] = 100 + slot


@pytest.fixture
def place():
    return Place()


def test_a_successor_goes_on_with_the_groups_lease_and_another_group_has_one_of_its_own(place):
    first, other = place.table.claim(4), place.table.claim(5)
    root = place.members[0].of_group()
    root.push(root.gradient, root.clock, Ticket(first.cell, first.epoch, 2))
    again = place.table.claim(4)
    assert (again.number, again.epoch, again.committed) == (first.number, first.epoch, 2)
    assert other.number != first.number


def test_a_lease_is_given_away_once_nobody_of_its_group_is_left(place):
    lease = place.table.claim(4)
    assert place.table.release(0) == []
    assert [released.number for released in place.table.release(1)] == [lease.number]
    assert place.table.claim(5).number == lease.number


def test_a_supernode_that_does_not_get_on_is_late_and_so_is_a_member_that_is_waited_for(place):
    assert place.members[0].take_role()
    lease = place.table.claim(4)
    at = LAYOUT.slot(1)
    place.words[LAYOUT.slot(4) + EXCHANGE] = place.words[at + SHARE_EXCHANGE] = 1
    place.table.expect(1)
    assert place.table.late() == []
    place.words[LAYOUT.cell(lease.cell) + LEASE_DEADLINE_NS] = place.words[at + SHARE_DEADLINE_NS] = 1
    assert place.table.late() == [0, 1]
    place.words[at + HANDED_IN] = 1
    place.table.renew(lease.cell)
    assert place.table.late() == []


def test_a_succession_is_news_and_the_first_supernode_is_none(place):
    assert place.members[2].take_role()
    assert place.table.news() == []
    assert place.members[3].take_role()
    [event] = place.table.news()
    assert (event.group, event.worker, event.before, event.times) == (1, 3, 2, 1)
    assert place.table.news() == []
    assert place.table.figures()["groups"][1]["supernode"] == 3
