"""A group's push and its succession: a supernode that dies before every single write, and whoever comes after it."""

import pytest
import torch

from aimass.core.memory import SharedMemory
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.counts import ROWS, STEPS
from aimass.parameters.groups import GroupServer
from aimass.parameters.layout import LEASE_COMMITTED, LEASE_EPOCH, LEASE_NUMBER, LEASE_OWNER, STOP, Layout
from aimass.parameters.views.members import EXCHANGE, OVER, PRESENT, TAKEN

LENGTH, GROUP_SLOT = 50, 2
LAYOUT = Layout(
    num_parameters=LENGTH, groups=((0, 30), (30, LENGTH)), states=("momentum",), num_slots=3, num_groups=1, shard_size=20, chunk_size=7
)


class Killed(Exception):
    """Stands for SIGKILL inside one process: what was written stays, and nothing after it is."""


class MortalWords:
    """The block's words, of a process that dies before its n-th write."""

    def __init__(self, words, left):
        self.words, self.left = words, left

    def __getitem__(self, at):
        return self.words[at]

    def __setitem__(self, at, value):
        self.left -= 1
        if self.left == 0:
            raise Killed
        self.words[at] = value


def handle(memory, slot, batches_per_push=1):
    update = build_update(OptimizerConfig(name="momentum"))
    return GroupServer(memory, LAYOUT, update, lambda step: 0.1 / (1 + step), slot=slot, batches_per_push=batches_per_push)


class Played:
    """One group of two, whose lease has a cell, in one process: every lock is free that a dead one held."""

    def __init__(self):
        self.driver = GroupServer.create(LAYOUT, build_update(OptimizerConfig(name="momentum")), lambda step: 0.1 / (1 + step))
        memory = self.driver.memory
        self.members = [handle(memory, 0), handle(memory, 1)]
        self.cell = LAYOUT.cell(0)
        self.driver.words[self.cell + LEASE_NUMBER], self.driver.words[self.cell + LEASE_OWNER] = 0, GROUP_SLOT
        self.driver.words[self.cell + LEASE_EPOCH] = 1
        assert self.members[0].take_role()
        self.p, self.momentum, self.step = torch.zeros(LENGTH), torch.zeros(LENGTH), 0

    def push(self, server, committed, left=10**9):
        """Push as the group, and die before the write number `left`."""
        root = server.of_group()
        root.gradient.copy_(torch.arange(LENGTH) * float(committed))
        self.driver.words[LAYOUT.slot(GROUP_SLOT) + EXCHANGE] = committed
        for member, batches in ((0, 1), (1, 2), (0, 3)):
            root.add_report(member, committed, batches, 10 * batches, float(committed), 1.0)
        root.words = MortalWords(root.words, left)
        return root.push(root.gradient, root.clock, Ticket(0, 1, committed))

    def apply(self, committed):
        """What a push should do."""
        self.momentum = 0.9 * self.momentum + torch.arange(LENGTH) * float(committed)
        self.p = self.p - 0.1 / (1 + self.step) * self.momentum
        self.step += 1

    def check(self, committed):
        torch.testing.assert_close(self.driver.p, self.p)
        torch.testing.assert_close(self.driver.states[0], self.momentum)
        assert self.driver.clock == self.step
        assert self.driver.words[self.cell + LEASE_COMMITTED] == committed
        assert not self.driver.is_pushing(GROUP_SLOT)

    def check_counts(self):
        """What the members have reported of the pushes that p has met, and of no other."""
        counts = [self.driver.counted(slot) for slot in (0, 1)]
        assert [self.driver.words[at + STEPS] for at in counts] == [4 * self.step, 2 * self.step]
        assert [self.driver.words[at + ROWS] for at in counts] == [40 * self.step, 20 * self.step]


def bury(played):
    played.driver.recover(0)


def succeed(played):
    assert played.members[1].take_role()


@pytest.mark.parametrize(
    "come_after", [[succeed], [bury], [succeed, bury], [bury, succeed]], ids=["successor", "driver", "successor first", "driver first"]
)
def test_a_push_is_whole_or_undone_whoever_comes_after_a_dead_supernode(come_after):
    for left in range(1, 200):
        played = Played()
        try:
            played.push(played.members[0], 1, left)
        except Killed:
            begun = played.driver.is_pushing(0) or played.driver.words[played.cell + LEASE_COMMITTED]  # the last writes only count
            for comes in come_after:
                comes(played)
            if begun:
                played.apply(1)
            played.check(int(begun))
            played.check_counts()
            succeed(played)
            assert played.push(played.members[1], 2) is Pushed.APPLIED
            played.apply(2)
            played.check(2)
            played.check_counts()
        else:
            break
    assert 20 < left < 199  # it has died before every write


def test_what_a_living_supernode_pushes_is_not_finished_by_others():
    """The dead one is buried late: its successor is inside a push of its own."""
    played = Played()
    with pytest.raises(Killed):
        played.push(played.members[0], 1, 8)
    succeed(played)
    played.apply(1)
    with pytest.raises(Killed):
        played.push(played.members[1], 2, 12)
    before = played.driver.p.clone()
    assert not played.driver.recover(0)
    assert torch.equal(played.driver.p, before)
    assert played.driver.recover(1)
    played.apply(2)
    played.check(2)


def test_a_snapshot_waits_for_a_push_whose_supernode_died():
    played = Played()
    with pytest.raises(Killed):
        played.push(played.members[0], 1, 8)
    moment = played.driver.snapshot(tend=lambda: bury(played))
    played.apply(1)
    torch.testing.assert_close(moment.parameters, played.p)
    assert moment.cells[0][LEASE_COMMITTED] == 1


def test_a_lease_that_went_to_others_is_not_pushed_to():
    played = Played()
    played.driver.words[played.cell + LEASE_EPOCH] = 2
    assert played.push(played.members[0], 1) is Pushed.LEASE_LOST
    played.members[0].of_group().skip(Ticket(0, 1, 1))
    played.check(0)


def test_nobody_takes_the_role_once_there_is_nothing_to_do():
    played = Played()
    at = LAYOUT.slot(GROUP_SLOT)
    for word in (at + OVER, STOP):
        played.driver.words[word] = 1
        assert not played.members[1].take_role()
        played.driver.words[word] = 0
    assert played.members[1].take_role()
    assert played.driver.words[at + TAKEN] == 2
    assert played.driver.holder(0) == 1


def test_schedules_count_batches_and_not_pushes():
    root = handle(SharedMemory.create(LAYOUT.size_bytes), 0, batches_per_push=4).of_group()
    assert root.rate(3) == 0.1 / 13


def test_going_back_leaves_no_trace():
    played = Played()
    moment = played.driver.snapshot()
    assert played.push(played.members[0], 1) is Pushed.APPLIED
    with pytest.raises(Killed):
        played.push(played.members[0], 2, 8)
    played.driver.restore(moment)
    played.check(0)
    assert played.driver.holder(0) == -1


TWO = Layout(num_parameters=8, groups=((0, 8),), num_slots=6, num_groups=2)


@pytest.mark.parametrize(("left", "group"), [(1, 0), (2, 0), (3, 1)])
def test_a_worker_that_dies_before_any_write_of_its_move_is_in_one_group_and_leaves_the_role(left, group):
    driver = GroupServer.create(TWO, build_update(OptimizerConfig(name="sgd")), lambda step: 0.1)
    mover, other = (GroupServer(driver.memory, TWO, driver.update, driver.rate, slot=slot) for slot in range(2))
    mover.come(100)
    other.come(101)
    assert mover.take_role()
    driver.assign({0: 1})
    mover.words = MortalWords(driver.words, left)
    if left < 3:
        with pytest.raises(Killed):
            mover.go(None, pytest.fail)
    else:
        assert mover.go(None, pytest.fail)
    assert driver.group_of(0) == group
    assert bool(driver.words[TWO.slot(0) + PRESENT]) == (left == 1)
    assert not driver.recover(0)
    assert other.take_role()


def test_a_worker_does_not_move_once_another_exchange_was_cut():
    driver = GroupServer.create(TWO, build_update(OptimizerConfig(name="sgd")), lambda step: 0.1)
    member = GroupServer(driver.memory, TWO, driver.update, driver.rate, slot=1)
    member.come(100)
    driver.assign({1: 1})
    driver.words[TWO.slot(4) + EXCHANGE] = 2
    assert not member.go(0, pytest.fail)
    assert driver.present(0)
    vacated = []
    assert member.go(2, vacated.append)
    assert vacated == [0]
    assert (driver.members(0), driver.members(1)) == ([0], [1, 2, 3])
    assert not driver.present(1)
