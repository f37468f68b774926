"""What has been counted of each worker's work, in its slot: what was committed, whoever committed it, and nothing else.

The counts lie in the slot twice, on two sides, of which one holds.

1. *Report.* Before a push the other side is written: what will have been counted with it. So it is there when the push may end an epoch.
2. *Commit.* That side holds from the moment at which the push counts. Where a push has an intent, one word says which side holds; it is
   written with the batches, and whoever finishes the push writes the same. In rounds it holds once the part is filled that it is of, and
   where there are replicas once the round is done: that is read, so that no moment lies between.
3. What was reported of a push that was refused, or that its worker did not live to begin, is overwritten by the next report.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from aimass.parameters.layout import SLOT_COUNTED, SLOT_COUNTS, SLOT_REPORT_OF, SLOT_REPORTED

STEPS, ROWS, LOSS_ROWS, LOSS, LOSS_WEIGHT = range(5)
"""Of a side: batches; rows; rows whose loss was finite; the sum of those losses times their rows' weights, and these weights (doubles)."""

NUM_COUNTS = 5
SIDES = SLOT_COUNTS, SLOT_COUNTS + NUM_COUNTS


def add_to_report(words: memoryview[int], reals: memoryview[float], at: int, steps: int, rows: int, loss: float, weight: float) -> None:
    """Put more into a slot's report, which does not hold yet. Arguments as for `Counting.report`."""
    new = at + SIDES[words[at + SLOT_REPORTED]]
    words[new] += steps
    words[new + ROWS] += rows
    if isfinite(loss):
        words[new + LOSS_ROWS] += rows
        reals[new + LOSS] += loss * weight
        reals[new + LOSS_WEIGHT] += weight


def forget_counts(words: memoryview[int], at: int) -> None:
    """Nothing has been counted in a slot."""
    for word in range(SLOT_COUNTED, SLOT_COUNTS + 2 * NUM_COUNTS):
        words[at + word] = 0


class Counting:
    """What a server does about the counts of its slots."""

    words: memoryview[int]
    reals: memoryview[float]
    _slots: Sequence[int]

    def report(self, slot: int, steps: int, rows: int, loss: float, weight: float, of: int = 0) -> None:
        """Step 1: say what is to be counted of a slot's next push.

        Args:
            slot: whose counts they are.
            steps, rows: to be counted.
            loss: the mean over the rows; it is left out, with its rows, where it is not finite.
            weight: of the rows.
            of: the round or the exchange that it is of, where by that it is told whether it holds.
        """
        words, reals, at, side = self.words, self.reals, self._slots[slot], self._side(slot)
        held, new = at + SIDES[side], at + SIDES[1 - side]
        words[at + SLOT_COUNTED] = side
        words[at + SLOT_REPORT_OF] = 0
        if not isfinite(loss):
            loss = weight = 0.0
            words[new + LOSS_ROWS] = words[held + LOSS_ROWS]
        else:
            words[new + LOSS_ROWS] = words[held + LOSS_ROWS] + rows
        words[new] = words[held] + steps
        words[new + ROWS] = words[held + ROWS] + rows
        reals[new + LOSS] = reals[held + LOSS] + loss * weight
        reals[new + LOSS_WEIGHT] = reals[held + LOSS_WEIGHT] + weight
        words[at + SLOT_REPORTED] = 1 - side
        if of:
            words[at + SLOT_REPORT_OF] = of

    def counted(self, slot: int) -> int:
        """Where the counts begin that hold in a slot: those of what is committed."""
        return self._slots[slot] + SIDES[self._side(slot)]

    def steps_before(self, slot: int) -> int:
        """The batches that were counted in a slot before its last report."""
        at = self._slots[slot]
        return self.words[at + SIDES[1 - self.words[at + SLOT_REPORTED]] + STEPS]

    def _side(self, slot: int) -> int:
        """Which side of a slot's counts holds."""
        return self.words[self._slots[slot] + SLOT_COUNTED]
