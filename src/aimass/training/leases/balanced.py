"""Rounds whose rows are shared out by how fast each worker is, so that all have done theirs at about the same time.

A round's rows are those of its leases, as in `rounds`; part j is the stretch of them that worker j computes. Where the stretches end is
written down before anyone begins, under the table's lock:

1. *Cut.* Where each part stops, then the word that says that the round is cut. Killed before it, whoever comes next cuts anew; after it
   the cuts are what they are, so that the part of a worker that dies is computed by another on the same rows.
2. *Leave out.* Parts without rows count as filled, at no weight. They are those of workers that are not there.
3. *Open.* One word, from which all see that both have been done. Killed before it, whoever comes next does the second step again.

A worker is there from its first look for work until it is buried, which the same lock orders.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from aimass.parameters.layout import (
    ABSENT,
    AT_WORK,
    LEASE_LOCK,
    NEXT_LEASE,
    NOBODY,
    SHARE_BUSY_NS,
    SHARE_CUT,
    SHARE_OPEN,
    SHARE_SPEED,
    SHARE_STOP,
    SLOT_STATE,
)
from aimass.parameters.views.parts import PART_OWNER, Part
from aimass.training.leases.rounds import RoundTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aimass.parameters.shared_memory import SharedMemoryServer
    from aimass.training.leases.plan import LeasePlan
    from aimass.training.leases.table import Lease, Released


class BalancedTable(RoundTable):
    """The parts of the present round, as one process sees them: one for each worker that is there.

    Args:
        server, plan, timeout_s: as for `RoundTable`; a lease of the plan is one batch.
        smoothing: how much the newest measurement of a worker's speed counts, above 0 and at most 1.
    """

    whole_batch: ClassVar[bool] = True

    def __init__(self, server: SharedMemoryServer, plan: LeasePlan, timeout_s: float, *, smoothing: float) -> None:
        super().__init__(server, plan, timeout_s)
        self._smoothing, self._began_ns, self._is_warm = smoothing, 0, False

    def size(self, first: int) -> int:
        return len(self._parts)

    def num_leases(self, first: int) -> int:
        """The leases whose rows are those of the round that begins with lease `first`."""
        return super().size(first)

    def claim(self, slot: int) -> Lease | None:
        self.words[self._parts[slot] + SLOT_STATE] = AT_WORK
        return super().claim(slot)

    def release(self, slot: int) -> list[Released]:
        with self.server.locks.held(LEASE_LOCK):
            self.words[self._parts[slot] + SLOT_STATE] = ABSENT
        return super().release(slot)

    def rows_left(self, lease: Lease) -> NDArray[np.int64]:
        first = lease.number - lease.cell
        stops = self._stops()
        start = stops[lease.cell - 1] if lease.cell else 0
        return self.plan.rows(first, self.num_leases(first))[start : stops[lease.cell]]

    # ----------------------------------------------------------------------------------------------------- the cuts

    def _open_round(self, first: int, present: int) -> None:
        words, parts = self.words, self._parts
        if words[parts[0] + SHARE_OPEN] == present:
            return
        with self.server.locks.held(LEASE_LOCK):
            if words[NEXT_LEASE] != first or words[parts[0] + SHARE_OPEN] == present:
                return
            if words[parts[0] + SHARE_CUT] != present:
                for at, stop in zip(parts, cut(self._num_rows(first), self._speeds()), strict=True):
                    words[at + SHARE_STOP] = stop
                words[parts[0] + SHARE_CUT] = present
            start = 0
            for index, stop in enumerate(self._stops()):
                if stop == start:
                    self._rounds.leave_out(self._part(index, first, len(parts)))
                elif words[parts[index] + PART_OWNER] == NOBODY and words[parts[index] + SLOT_STATE] == AT_WORK:
                    words[parts[index] + PART_OWNER] = index
                start = stop
            words[parts[0] + SHARE_OPEN] = present

    def _part(self, index: int, first: int, size: int) -> Part:
        num_leases = self.num_leases(first)
        return Part(index, size, self.plan.first_batch(first), 1, num_leases, counts=batches_of(index, self._stops(), num_leases))

    def _stops(self) -> list[int]:
        return [self.words[at + SHARE_STOP] for at in self._parts]

    def _num_rows(self, first: int) -> int:
        return len(self.plan.rows(first, self.num_leases(first)))

    def _speeds(self) -> list[float]:
        """Rows a second of each worker; 0 of one that is not there, and of one that was never measured as of the others."""
        there = [self.words[at + SLOT_STATE] == AT_WORK for at in self._parts]
        known = [self.server.reals[at + SHARE_SPEED] for at in self._parts]
        measured = [speed for speed, is_there in zip(known, there, strict=True) if is_there and speed > 0]
        typical = sum(measured) / len(measured) if measured else 1.0
        return [(speed or typical) if is_there else 0.0 for speed, is_there in zip(known, there, strict=True)]

    # ------------------------------------------------------------------------------------------------------ speeds

    def _begin(self, part: int, first: int, size: int, slot: int) -> Lease:
        self._began_ns = time.monotonic_ns()
        return super()._begin(part, first, size, slot)

    def measure(self, slot: int, num_rows: int) -> None:
        """Note how fast a worker has computed the part that it had begun. Its first is not measured: there a process grows warm.

            s ← s + a (n / t − s)

        Args:
            slot: whose.
            num_rows: n, the rows of that part.
        """
        words, reals, at = self.words, self.server.reals, self._parts[slot]
        took_ns = max(1, time.monotonic_ns() - self._began_ns)
        if not self._is_warm:
            self._is_warm = True
            return
        words[at + SHARE_BUSY_NS] += took_ns
        speed, known = num_rows / took_ns * 1e9, reals[at + SHARE_SPEED]
        reals[at + SHARE_SPEED] = known + self._smoothing * (speed - known) if known else speed


def cut(num_rows: int, speeds: Sequence[float]) -> list[int]:
    """Where each worker's stretch of some rows stops: in proportion to their speeds, and at least one row each if there are enough.

    >>> cut(128, [3.0, 0.0, 1.0])
    [96, 96, 128]
    >>> cut(4, [1000.0, 1.0, 1.0])
    [2, 3, 4]
    """
    least = 1 if num_rows >= sum(speed > 0 for speed in speeds) else 0
    wanted = [max(0.0, num_rows * speed / sum(speeds) - least) for speed in speeds]
    left, total = num_rows - least * sum(speed > 0 for speed in speeds), sum(wanted)
    stops, so_far, reserved = [], 0.0, 0
    for speed, rows in zip(speeds, wanted, strict=True):
        so_far, reserved = so_far + rows, reserved + least * (speed > 0)
        stops.append(reserved + (round(left * so_far / total) if total else 0))
    return stops


def batches_of(part: int, stops: Sequence[int], num_leases: int) -> int:
    """For how many of a round's batches a part counts: one each, and the first part that has rows for those that are left over.

    >>> [batches_of(part, [96, 96, 128], 3) for part in range(3)]
    [2, 0, 1]
    """
    full = [index for index, (start, stop) in enumerate(pairwise([0, *stops])) if stop > start]
    if part not in full:
        return 0
    return max(0, num_leases - len(full)) * (part == full[0]) + (full.index(part) < num_leases)
