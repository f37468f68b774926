"""Bounded staleness: who may begin a step, over any order of coming, working, resting and dying."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.layout import ABSENT, AT_WORK, JOINING, SLOT_CLOCK, SLOT_LEAD, SLOT_STATE, Layout
from aimass.parameters.pace import Pace, mark_absent
from aimass.parameters.shared_memory import SharedMemoryServer

NUM_WORKERS = 4


def make_server():
    update = build_update(OptimizerConfig(name="sgd"))
    layout = Layout(num_parameters=4, groups=((0, 4),), num_slots=NUM_WORKERS)
    return SharedMemoryServer.create(layout, update, lambda step: 1.0)


def never():
    return False


class Group:
    """Workers of one process, each with a pace of its own, and what the rule says of them."""

    def __init__(self, bound):
        self.bound, self.server = bound, make_server()
        self.paces = [Pace(self.server, slot, bound) for slot in range(NUM_WORKERS)]
        self.at = [self.server.layout.slot(slot) for slot in range(NUM_WORKERS)]

    def clock(self, slot):
        return self.server.words[self.at[slot] + SLOT_CLOCK]

    def slowest(self):
        present = [slot for slot in range(NUM_WORKERS) if self.server.words[self.at[slot] + SLOT_STATE] == AT_WORK]
        return min(map(self.clock, present), default=None)

    def step(self, slot):
        may = self.paces[slot].begin(never)
        assert may == (self.clock(slot) - self.slowest() <= self.bound)
        if may:
            self.paces[slot].end()
        return may

    def replace(self, slot):
        mark_absent(self.server, slot)
        self.paces[slot] = Pace(self.server, slot, self.bound)


actions = st.lists(
    st.tuples(st.sampled_from(["step", "step", "step", "rest", "die", "late"]), st.integers(0, NUM_WORKERS - 1)), max_size=80
)


@given(bound=st.integers(0, 3), actions=actions)
def test_nobody_is_ever_let_further_ahead_and_the_slowest_never_falls_back(bound, actions):
    group, slowest = Group(bound), 0
    for action, slot in actions:
        match action:
            case "step":
                group.step(slot)
            case "rest":
                group.paces[slot].rest()
            case "die":
                group.replace(slot)
            case "late":
                mark_absent(group.server, slot)
        if (now := group.slowest()) is not None:
            assert now >= slowest
            slowest = now
            leads = [group.clock(i) - now for i, at in enumerate(group.at) if group.server.words[at + SLOT_STATE] == AT_WORK]
            assert max(leads) <= bound + 1  # a step that was begun in time may have ended


@pytest.mark.parametrize("bound", [0, 1, 5])
def test_the_fastest_takes_k_steps_and_one_more_and_then_waits_for_the_slowest(bound):
    group = Group(bound)
    assert group.paces[1].begin(never)  # and it is slow about it
    assert [group.step(0) for _ in range(bound + 3)] == [True] * (bound + 1) + [False] * 2
    assert group.server.words[group.at[0] + SLOT_LEAD] == bound + 1  # one more than the lead
    group.paces[1].end()
    assert [group.step(0) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("leave", [lambda group: mark_absent(group.server, 1), lambda group: group.paces[1].rest()])
def test_nobody_waits_for_the_dead_and_those_without_data(leave):
    group = Group(1)
    assert group.paces[1].begin(never)
    assert [group.step(0) for _ in range(4)] == [True, True, False, False]
    leave(group)
    assert all(group.step(0) for _ in range(10))
    assert group.step(1), "whoever comes back is not behind"
    assert group.clock(1) == group.clock(0) + 1


def test_one_in_place_of_a_dead_one_starts_with_the_slowest():
    group = Group(3)
    for slot in (0, 1, 1, 1):
        assert group.step(slot)
    group.replace(1)
    assert group.step(1)
    assert group.clock(1) == 2


def test_nobody_begins_while_another_comes_in():
    group = Group(5)
    group.server.words[group.at[2] + SLOT_STATE] = JOINING
    assert not group.paces[0].begin(never)
    mark_absent(group.server, 2)  # it died meanwhile
    assert group.paces[0].begin(never)


def test_one_that_waits_goes_on_when_the_slowest_does_and_comes_in_again_when_it_was_taken_for_late():
    group = Group(0)
    assert group.paces[1].begin(never)
    assert group.step(0)
    asked = threading.Event()

    def goes_on():
        asked.set()
        return True

    thread = threading.Thread(target=group.paces[0].begin, args=(goes_on,))
    thread.start()
    assert asked.wait(20)
    assert thread.is_alive()
    mark_absent(group.server, 0)
    group.paces[1].end()
    thread.join(20)
    assert not thread.is_alive()
    assert group.server.words[group.at[0] + SLOT_STATE] == AT_WORK


def test_a_restored_server_knows_of_nobody():
    group = Group(0)
    snapshot = group.server.snapshot()
    assert group.step(0)
    group.server.restore(snapshot)
    assert [(group.clock(slot), group.server.words[at + SLOT_STATE]) for slot, at in enumerate(group.at)] == [(0, ABSENT)] * NUM_WORKERS
