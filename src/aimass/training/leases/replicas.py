"""Who computes what in each round, where every worker has a replica: a pure function of the batches done, and nothing is claimed.

A round takes the next batches of the run, at most `accumulate` for each worker and never across the end of an epoch, and
deals them out in order, as evenly as may be:

    per = ⌈(end − done) / workers⌉,    worker i computes batches done + i·per to done + (i + 1)·per − 1 of those before `end`

So a part has fixed rows, whoever computes it and however often, and near the end of an epoch some workers may have none.

A run that comes from a strategy with leases may have left gaps: batches before the next lease that nobody has done. They are
done first, in order; their lease cells stay in the block as the record of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from aimass.parameters.layout import (
    CELL_WORDS,
    LEASE_COMMITTED,
    LEASE_LIMIT,
    LEASE_NUMBER,
    LEASE_OWNER,
    NEXT_LEASE,
    NOBODY,
    STOP,
)
from aimass.parameters.replicas import DEADLINE_NS, DONE, ReplicaServer
from aimass.training.leases.plan import LeasePlan, epoch_order
from aimass.training.leases.table import Lease, LeaseTable, Released

_LONGEST_SETTLING_S = 1.0

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Part:
    """What one worker computes in one round.

    Args:
        batches: the numbers of its batches in the run, perhaps none.
        done: the batches done after the round.
        num_rows: of the whole round.
    """

    batches: list[int]
    done: int
    num_rows: int


class ReplicaTable(LeaseTable):
    """The rounds, as one process sees them.

    Args:
        server: whose replicas say how many batches are done.
        plan: what each lease, and so each batch, holds.
        timeout_s: how long a worker may take for each batch of its part of a round.
        accumulate: batches a worker takes in a round at most.
    """

    kills_late = True  # nobody else can compute its part, and all wait for it

    def __init__(self, server: ReplicaServer, plan: LeasePlan, timeout_s: float, accumulate: int = 1) -> None:
        super().__init__(server, plan, timeout_s)
        self.replicas, self.accumulate = server, accumulate
        self._deadlines = [server.layout.slot(slot) + DEADLINE_NS for slot in range(server.layout.num_slots)]
        self._most_batches = server.layout.num_slots * accumulate
        server.cells_of = self._cells_of

    # ------------------------------------------------------------------------------------------------------- rounds

    def part(self, slot: int) -> Part | None:
        """A worker's part of the next round. None where the run is done, or goes no further for now."""
        done = self.replicas.done_of(slot)
        end = self._end_of_round(done)
        if end <= done or (done >= self._origin.following and end > self.plan.first_batch(self.words[LEASE_LIMIT])):
            return None
        batches = [self._batch(at) for at in self._dealt(slot, done, end)]
        num_rows = (end - done - 1) * self.plan.batch_size + self.rows_in(self._batch(end - 1))
        return Part(batches, end, num_rows)

    def _dealt(self, slot: int, done: int, end: int) -> range:
        """Which of the batches from `done` to `end` are one worker's."""
        per = -(-(end - done) // self.server.layout.num_slots)
        first = min(done + slot * per, end)
        return range(first, min(first + per, end))

    def begin(self, slot: int) -> None:
        """Note that a worker begins with a batch of its part: from now on others wait for it."""
        self._naps = 0
        self.words[self._deadlines[slot]] = time.monotonic_ns() + self._timeout_ns

    def end(self, slot: int) -> None:
        """Note that a worker has done its part."""
        self.words[self._deadlines[slot]] = 0

    def rows(self, batch: int) -> NDArray[np.int64]:
        """The rows of one batch of the run. int64 (rows_in(batch),)."""
        plan = self.plan
        epoch, index = divmod(batch, plan.batches_per_epoch)
        return epoch_order(plan.num_rows, plan.seed, epoch)[index * plan.batch_size : (index + 1) * plan.batch_size]

    def rows_in(self, batch: int) -> int:
        """How many rows a batch has: the last one of an epoch may have fewer."""
        plan = self.plan
        return min(plan.batch_size, plan.num_rows - batch % plan.batches_per_epoch * plan.batch_size)

    def leases_begun(self, done: int) -> int:
        """How many leases' worth of batches so many make, where each epoch begins a new one: for what is done once a lease."""
        epoch, index = divmod(done, self.plan.batches_per_epoch)
        return epoch * self.plan.leases_per_epoch + index // self.plan.batches_per_lease

    def _end_of_round(self, done: int) -> int:
        plan, end = self.plan, done + self._most_batches
        if done < self._origin.following:
            end = min(end, self._origin.following)
            while self._epoch(end - 1) != self._epoch(done):
                end -= 1
            return end
        end = min(end, (done // plan.batches_per_epoch + 1) * plan.batches_per_epoch)
        return end if plan.total_batches is None else min(end, plan.total_batches)

    def _batch(self, at: int) -> int:
        """The number in the run of the batch that comes after `at` others."""
        return at if at >= self._origin.following else self._origin.gaps[at - self._origin.done]

    def _epoch(self, at: int) -> int:
        return self._batch(at) // self.plan.batches_per_epoch

    # ------------------------------------------------------------------------------------------- where the run stands

    @property
    def committed_batches(self) -> int:
        return self.replicas.done

    @property
    def epochs_done(self) -> int:
        return self._epoch(self.replicas.done)

    def settle(self) -> None:
        """Wait until each replica whose worker is there holds the last round too: by then its worker has counted its loss."""
        until_s = time.monotonic() + _LONGEST_SETTLING_S
        while any(0 <= done < self.replicas.done for done in self.replicas.present()) and time.monotonic() < until_s:
            time.sleep(0.0002)

    @property
    def is_done(self) -> bool:
        return self.plan.total_batches is not None and self.replicas.done >= self.plan.total_batches

    def extend(self, limit: int) -> None:
        if not self.words[STOP]:  # or a worker that has seen it could leave while another begins a round
            super().extend(limit)

    # ------------------------------------------------------------------------------------- what a run came here with

    def release_all(self) -> None:
        """After a restore, and before the first round: the cells say how far the first replica is."""
        self.__dict__.pop("_origin", None)
        self.words[self.server.layout.slot(0) + DONE] = self._origin.done

    @cached_property
    def _origin(self) -> _Origin:
        plan, words = self.plan, self.words
        following = plan.first_batch(words[NEXT_LEASE])
        gaps: list[int] = []
        for at in self._cells:
            number = words[at + LEASE_NUMBER]
            if number != NOBODY:
                first = plan.first_batch(number)
                gaps.extend(range(first + words[at + LEASE_COMMITTED], first + plan.num_batches(number)))
        gaps.sort()
        done = following - len(gaps)
        while gaps and gaps[-1] == following - 1:  # what lies right before the next lease is done as if it belonged to that
            following = gaps.pop()
        return _Origin(gaps, done, following)

    def _cells_of(self, done: int) -> tuple[list[list[int]], int]:
        """The lease cells and the next lease of a run with so many batches done: as tables of leases know it."""
        plan, origin = self.plan, self._origin
        begun: dict[int, int] = {}
        left = origin.gaps[done - origin.done :] if done < origin.following else []
        at = max(done, origin.following)
        for batch in [*left, at]:
            epoch, index = divmod(batch, plan.batches_per_epoch)
            lease, committed = divmod(index, plan.batches_per_lease)
            begun.setdefault(epoch * plan.leases_per_epoch + lease, committed)
        following = max(begun)
        if begun[following]:
            following += 1
        else:
            del begun[following]
        return [_cell(number, committed) for number, committed in begun.items()], following

    # ------------------------------------------------------------------------------------- nothing is claimed or kept

    def claim(self, slot: int) -> Lease | None:
        raise AssertionError("there are parts of rounds here, and no leases")

    def late(self) -> list[int]:
        now = self.judged_ns()
        return [slot for slot, at in enumerate(self._deadlines) if 0 < self.words[at] < now]

    def put_off(self, seconds: float) -> None:
        for at in self._deadlines:
            if self.words[at]:
                self.words[at] += int(seconds * 1e9)

    def release(self, slot: int) -> list[Released]:
        return []

    def revoke_late(self) -> list[Released]:
        return []


@dataclass(frozen=True, slots=True)
class _Origin:
    """How far a run was when it came here: `done` batches, and all before `following` but for the gaps."""

    gaps: list[int]
    done: int
    following: int


def _cell(number: int, committed: int) -> list[int]:
    cell = [0] * CELL_WORDS
    cell[LEASE_NUMBER], cell[LEASE_OWNER], cell[LEASE_COMMITTED] = number, NOBODY, committed
    return cell
