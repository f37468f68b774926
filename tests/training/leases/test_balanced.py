"""Who gets which rows of a round, and that they stay what they are whoever dies."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from parameters.playing import LENGTH, Group, gradient_of

from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.layout import ABSENT, AT_WORK, NEXT_LEASE, SHARE_CUT, SHARE_OPEN, SHARE_SPEED, SLOT_STATE
from aimass.parameters.views.parts import PART_OWNER
from aimass.training.leases.balanced import BalancedTable, batches_of, cut
from aimass.training.leases.plan import LeasePlan

ROWS = 8  # a batch


class Balanced(Group):
    """Workers of one run whose rounds are shared out by speed, all played by this process."""

    def __init__(self, num_slots=3, num_leases=9, speeds=None):
        super().__init__(num_slots=num_slots, num_leases=num_leases)
        self.plan = LeasePlan(num_rows=ROWS * num_leases - 3, batch_size=ROWS, batches_per_lease=1, seed=0, total_batches=num_leases)
        self.leases = BalancedTable(self.driver, self.plan, 30.0, smoothing=0.5)
        self.leases.open(num_leases)
        self.workers = [(server, BalancedTable(server, self.plan, 30.0, smoothing=0.5)) for server, _ in self.workers]
        for slot, speed in enumerate(speeds or [1.0] * num_slots):
            self.driver.words[self.layout.slot(slot) + SLOT_STATE] = AT_WORK if speed else ABSENT
            self.driver.reals[self.layout.slot(slot) + SHARE_SPEED] = speed

    def begin(self, slot):
        table = self.workers[slot][1]
        lease = table.claim(slot)
        return lease if lease is None else (lease, table.rows_left(lease))

    def end(self, slot, lease, rows):
        server = self.workers[slot][0]
        server.gradient.copy_(gradient_of(lease.number))
        return server.push(server.gradient, 0, Ticket(lease.cell, lease.epoch, 1, float(len(rows))))

    def round(self):
        """Each worker's rows of a round that all take part in."""
        begun = [(slot, *found) for slot in range(len(self.workers)) if (found := self.begin(slot)) is not None]
        for slot, lease, rows in begun:
            assert self.end(slot, lease, rows) is Pushed.APPLIED
        return [len(rows) for _, _, rows in begun], [row for _, _, rows in begun for row in rows.tolist()]


@given(st.integers(0, 500), st.lists(st.sampled_from([0.0, 0.001, 1.0, 2.5, 1e6]), min_size=1, max_size=9).filter(any))
def test_every_row_is_somebodys_and_nobody_who_is_there_goes_empty(num_rows, speeds):
    stops = cut(num_rows, speeds)
    sizes = [stop - start for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
    assert stops[-1] == num_rows
    assert min(sizes) >= 0
    for size, speed in zip(sizes, speeds, strict=True):
        assert speed or not size
        if num_rows >= sum(speed > 0 for speed in speeds):
            assert bool(size) == bool(speed)
            assert abs(size - num_rows * speed / sum(speeds)) <= len(speeds)
    if num_rows:
        for leases in range(1, 12):
            assert sum(batches_of(part, stops, leases) for part in range(len(stops))) == leases


def test_rows_follow_the_speeds_and_are_those_of_the_rounds_leases():
    group = Balanced(speeds=[4.0, 1.0, 1.0])
    sizes, rows = group.round()
    assert sizes == [16, 4, 4]
    assert rows == group.plan.rows(0, 3).tolist()
    assert group.driver.words[NEXT_LEASE] == 3
    for slot, speed in enumerate([1.0, 1.0, 2.0]):
        group.driver.reals[group.layout.slot(slot) + SHARE_SPEED] = speed
    assert group.round()[0] == [6, 6, 12]
    assert sum(group.round()[0]) == 3 * ROWS - 3, "the end of the epoch"
    assert group.leases.is_done


def test_the_update_is_the_mean_by_rows():
    group = Balanced(num_slots=2, speeds=[3.0, 1.0])
    expected = group.driver.p - 0.1 * (12 * gradient_of(0) + 4 * gradient_of(1)) / 16
    group.round()
    torch.testing.assert_close(group.driver.p, expected)
    assert len(expected) == LENGTH


def test_who_is_not_there_gets_nothing_until_it_comes():
    group = Balanced(speeds=[1.0, 0.0, 0.0])
    lease, rows = group.begin(0)
    assert len(rows) == 3 * ROWS
    assert group.begin(1) is None, "it has come, and this round is cut"
    group.end(0, lease, rows)
    assert group.round()[0] == [12, 12]
    group.leases.release(1)
    assert group.begin(2) is not None
    assert [len(group.begin(slot)[1]) for slot in (0, 2)] == [11, 10], "as fast as the others, until it is measured"


def test_a_share_stays_what_it_is_when_its_worker_dies():
    group = Balanced(num_slots=2, speeds=[1.0, 3.0])
    lost, rows = group.begin(1)
    first = group.begin(0)
    group.end(0, *first)
    group.driver.reals[group.layout.slot(0) + SHARE_SPEED] = 100.0
    assert [released.number for released in group.leases.release(1)] == [lost.number]
    again, same = group.begin(0)
    assert (again.cell, again.number, same.tolist()) == (lost.cell, lost.number, rows.tolist())
    assert group.end(0, again, same) is Pushed.APPLIED
    assert group.driver.words[NEXT_LEASE] == 2
    assert len(group.begin(0)[1]) == 2 * ROWS, "the dead one is not there"


@pytest.mark.parametrize("done", range(12))
def test_a_death_while_a_round_is_opened_leaves_it_to_the_next(done):
    """It is killed after so many of its words are written."""
    whole, torn = Balanced(speeds=[2.0, 1.0, 0.0]), Balanced(speeds=[2.0, 1.0, 0.0])

    class Killed(Exception):
        pass

    class Words:
        def __init__(self, words):
            self.words, self.left = words, done

        def __getitem__(self, at):
            return self.words[at]

        def __setitem__(self, at, value):
            if not self.left:
                raise Killed
            self.left -= 1
            self.words[at] = value

    table = BalancedTable(torn.workers[0][0], torn.plan, 30.0, smoothing=0.5)
    table.words = Words(torn.driver.words)
    try:
        table._open_round(0, torn.driver.id_of(0))
    except Killed:
        torn.leases.release(0)
        torn.driver.words[torn.layout.slot(0) + SLOT_STATE] = AT_WORK  # another in its place
    words, first = torn.driver.words, torn.layout.slot(0)
    if words[first + SHARE_CUT]:
        torn.driver.reals[first + SHARE_SPEED] = 50.0  # too late to matter
    assert torn.round() == whole.round()
    assert words[first + SHARE_OPEN] == whole.driver.id_of(0)
    assert torn.driver.words[NEXT_LEASE] == 3


def test_nothing_of_a_round_is_left_after_a_snapshot_was_restored():
    group = Balanced(num_slots=2)
    before = group.driver.snapshot()
    assert group.begin(0) is not None
    group.driver.restore(before)
    words = group.driver.words
    assert [words[group.layout.slot(0) + word] for word in (SHARE_CUT, SHARE_OPEN)] == [0, 0]
    assert words[group.layout.slot(0) + PART_OWNER] == -1
    assert [words[group.layout.slot(slot) + SLOT_STATE] for slot in range(2)] == [ABSENT, ABSENT]


def test_a_speed_is_smoothed_and_the_first_of_a_process_is_not_counted():
    group = Balanced(num_slots=2, speeds=[100.0, 100.0])
    table = group.workers[0][1]
    at = group.layout.slot(0) + SHARE_SPEED
    table.claim(0)
    table.measure(0, 10**9)
    assert group.driver.reals[at] == 100.0
    table.measure(0, 0)
    assert group.driver.reals[at] == 50.0
