"""Leases of groups: whose they are, who goes on with them, and who is late."""

import pytest

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Ticket
from aimass.parameters.groups import GroupServer
from aimass.parameters.layout import LEASE_DEADLINE_NS, Layout
from aimass.parameters.views.members import EXCHANGE, HANDED_IN, PRESENT, SHARE_DEADLINE_NS, SHARE_EXCHANGE, SPEED, TURNS
from aimass.training.leases.groups import GroupTable
from aimass.training.leases.plan import LeasePlan

LAYOUT = Layout(num_parameters=8, groups=((0, 8),), num_slots=6, num_groups=2)  # workers 0 to 3, and the groups' slots 4 and 5
PLAN = LeasePlan(num_rows=64, batch_size=4, batches_per_lease=4, seed=0, total_batches=16)


class Place:
    """The driver's table, and each member's handle, in one process."""

    def __init__(self, **options):
        update = build_update(OptimizerConfig(name="sgd"))
        self.driver = GroupServer.create(LAYOUT, update, lambda step: 0.1)
        self.members = [GroupServer(self.driver.memory, LAYOUT, update, lambda step: 0.1, slot=slot) for slot in range(4)]
        self.table = GroupTable(self.driver, PLAN, 60.0, **options)
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


def test_a_supernode_that_moved_is_not_late_for_the_group_that_it_left(place):
    assert place.members[0].take_role()
    lease = place.table.claim(4)
    place.driver.assign({0: 1})
    assert place.members[0].go(None, place.table.vacate)
    place.words[LAYOUT.cell(lease.cell) + LEASE_DEADLINE_NS] = 1
    assert place.table.late() == []
    assert place.members[1].take_role()
    assert place.table.late() == [1]
    assert [[member["worker"] for member in group["members"]] for group in place.table.figures()["groups"]] == [[1], [0, 2, 3]]


def test_the_last_supernode_of_a_group_gives_its_lease_back_as_it_moves(place):
    assert place.members[0].take_role()
    lease = place.table.claim(4)
    place.table.release(1)
    place.driver.assign({0: 1})
    assert place.members[0].go(None, place.table.vacate)
    assert place.table.claim(5).number == lease.number
    place.members[0].come(100)
    assert place.table.release(2) == place.table.release(3) == []
    assert [released.number for released in place.table.release(0)] == [lease.number]


@pytest.mark.parametrize("how", ["leaves first", "is dead"])
def test_the_last_member_of_a_group_gives_its_lease_back_as_it_moves(place, how):
    assert place.members[0].take_role()
    lease = place.table.claim(4)
    place.driver.assign({0: 1, 1: 1})
    if how == "is dead":
        assert place.table.release(0) == []
    else:
        assert place.members[0].go(None, place.table.vacate)
    assert place.members[1].go(0, place.table.vacate)
    assert place.table.claim(5).number == lease.number


def test_no_two_groups_have_an_exchange_in_common(place):
    numbers, other = [0], [0]
    for _ in range(3):
        numbers.append(place.members[0].next_exchange(numbers[-1]))
        other.append(place.members[2].next_exchange(other[-1]))
    assert numbers[1:] == sorted(set(numbers[1:]))
    assert not set(numbers[1:]) & set(other[1:])


SPEEDS = [900.0, 300.0, 1000.0, 310.0]


def measure(place, speeds, turns=6):
    """Let every member do some more shares, at these speeds, and look."""
    for slot, speed in enumerate(speeds):
        place.words[LAYOUT.slot(slot) + TURNS] += turns
        place.driver.reals[LAYOUT.slot(slot) + SPEED] = speed
    return place.table.news()


def test_workers_of_like_speed_are_brought_together_once_three_looks_say_so():
    place = Place(by_speed=True)
    assert measure(place, SPEEDS) == measure(place, SPEEDS) == measure(place, SPEEDS, turns=5) == []
    [formed] = measure(place, SPEEDS, turns=1)
    assert [group["workers"] for group in formed.groups] == [[0, 2], [1, 3]]
    assert formed.moved == [1, 2]
    assert formed.unlike < 1.2 < 3 < formed.before
    assert [place.driver.assigned(slot) for slot in range(4)] == [0, 1, 0, 1]
    assert [place.driver.group_of(slot) for slot in range(4)] == [0, 0, 1, 1]
    assert measure(place, SPEEDS, turns=100) == [], "who is on the way is not sent elsewhere"
    for slot in (1, 2):
        assert place.members[slot].go(0, place.table.vacate)
        assert place.members[slot].group_p.data_ptr() == place.members[(slot + 2) % 4].group_p.data_ptr()
        assert measure(place, SPEEDS, turns=100) == [], "nobody may be missing"
        place.members[slot].come(100 + slot)
    assert measure(place, SPEEDS) == measure(place, SPEEDS) == measure(place, SPEEDS) == []
    place.driver.restore(place.driver.snapshot())
    assert [place.driver.group_of(slot) for slot in range(4)] == [0, 1, 0, 1]


@pytest.mark.parametrize("speeds", [[900.0, 700.0, 1000.0, 800.0], [0.0, 300.0, 1000.0, 310.0], [1000.0, 990.0, 310.0, 300.0]])
def test_workers_stay_where_speeds_hardly_differ_or_are_not_known_or_are_alike_already(speeds):
    place = Place(by_speed=True)
    assert [measure(place, speeds) for _ in range(5)] == [[]] * 5


def test_what_is_so_for_a_moment_moves_nobody():
    place = Place(by_speed=True)
    even = [1000.0] * 4
    assert [measure(place, speeds) for speeds in (SPEEDS, SPEEDS, even, SPEEDS, SPEEDS, even)] == [[]] * 6
