"""Leases: which worker may train on which batches, and how far each has come. Every row once, whoever dies.

A lease is a run of batches of one epoch's seeded permutation. The table of open leases lies in the parameter server's block, so
that a push commits its batch in the same breath, and workers take their next lease without asking the driver. A lease whose
worker died or is late gets the next epoch and goes to whoever asks first; it goes on after the last committed batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from aimass.parameters.layout import (
    LEASE_COMMITTED,
    LEASE_DEADLINE_NS,
    LEASE_EPOCH,
    LEASE_LIMIT,
    LEASE_LOCK,
    LEASE_NUMBER,
    LEASE_OWNER,
    NEXT_LEASE,
    NOBODY,
    NUM_LEASES,
)
from aimass.parameters.pace import mark_absent
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.taken import TakenRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aimass.core.events import Event
    from aimass.parameters.shared_memory import SharedMemoryServer

_IDLE_S = 0.001
_IDLE_PATIENCE_S = 0.02


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease in a worker's hand: batches `committed` to `num_batches` are to be done."""

    cell: int
    number: int
    epoch: int
    committed: int
    num_batches: int


@dataclass(frozen=True, slots=True)
class Released:
    """A lease that was taken from its worker."""

    number: int
    epoch: int
    committed: int


class LeaseTable:
    """The open leases, as one process sees them.

    Args:
        server: whose block holds the table.
        plan: what each lease holds.
        timeout_s: how long a worker may go without a committed batch.
    """

    kills_late: ClassVar[bool] = False
    """Whether a late worker is killed before its work goes to another. Here its pushes are refused, which is enough."""

    whole_batch: ClassVar[bool] = False
    """Whether the rows of a lease are one batch, however many they are."""

    def __init__(self, server: SharedMemoryServer, plan: LeasePlan, timeout_s: float) -> None:
        self.server, self.plan, self.words = server, plan, server.words
        self._cells = [server.layout.cell(i) for i in range(server.layout.num_cells)]
        self.timeout_s, self._timeout_ns = timeout_s, int(timeout_s * 1e9)
        self.taken = TakenRecord(server) if server.layout.num_tasks else None
        self.judged_ns: Callable[[], int] = time.monotonic_ns
        """The moment by which lateness is judged."""
        self._naps = 0

    def open(self, limit: int) -> None:
        """Say where the run ends, and up to which lease workers may go for now."""
        self.words[NUM_LEASES] = self.plan.num_leases
        self.words[LEASE_LIMIT] = limit

    def extend(self, limit: int) -> None:
        """Let workers go on up to lease `limit`."""
        self.words[LEASE_LIMIT] = limit

    def claim(self, slot: int) -> Lease | None:
        """Take the next lease, one that was taken from another first. None when there is none just now."""
        with self.server.locks.held(LEASE_LOCK):
            self._forget_finished(slot)
            free = None
            for index, at in enumerate(self._cells):
                if self.words[at + LEASE_OWNER] != NOBODY:
                    continue
                if self.words[at + LEASE_NUMBER] != NOBODY:
                    return self._take(index, slot)
                free = index if free is None else free
            number = self._next_number()
            if free is None or number >= min(self.words[LEASE_LIMIT], self.words[NUM_LEASES]):
                return None
            at = self._cells[free]
            self.words[at + LEASE_COMMITTED] = 0
            self.words[at + LEASE_EPOCH] += 1
            self.words[at + LEASE_NUMBER] = number
            lease = self._take(free, slot)
            self.words[NEXT_LEASE] = number + 1
            return lease

    def renew(self, cell: int) -> None:
        """Put a lease's deadline off: its worker is getting on."""
        self.words[self._cells[cell] + LEASE_DEADLINE_NS] = time.monotonic_ns() + self._timeout_ns

    def rows_left(self, lease: Lease) -> NDArray[np.int64]:
        """The rows of a lease that are still to be trained on. int64 (num_rows,)."""
        return self.plan.rows(lease.number)[lease.committed * self.plan.batch_size :]

    def holds(self, lease: Lease) -> bool:
        """Whether the lease is still its worker's."""
        return self.words[self._cells[lease.cell] + LEASE_EPOCH] == lease.epoch

    def release(self, slot: int) -> list[Released]:
        """Take every lease from a worker that is gone. Its unfinished push must have been recovered before."""
        mark_absent(self.server, slot)
        with self.server.locks.held(LEASE_LOCK):
            return self._release([at for at in self._cells if self.words[at + LEASE_OWNER] == slot])

    def late(self) -> list[int]:
        """The slots of the workers whose time is over."""
        now, words = self.judged_ns(), self.words
        return [words[at + LEASE_OWNER] for at in self._cells if words[at + LEASE_OWNER] != NOBODY and words[at + LEASE_DEADLINE_NS] < now]

    def put_off(self, seconds: float) -> None:
        """Give every worker so much more time: whoever judges them stood still, perhaps with a lock that they waited for."""
        for at in self._cells:
            if self.words[at + LEASE_OWNER] != NOBODY:
                self.words[at + LEASE_DEADLINE_NS] += int(seconds * 1e9)

    def revoke_late(self) -> list[Released]:
        """Take from living workers the leases whose time is over. One that is just being pushed to is left alone."""
        now, words = self.judged_ns(), self.words
        late = [at for at in self._cells if words[at + LEASE_OWNER] != NOBODY and words[at + LEASE_DEADLINE_NS] < now]
        if not late:
            return []
        with self.server.locks.held(self.server.shards[0].index), self.server.locks.held(LEASE_LOCK):
            still = [at for at in late if words[at + LEASE_OWNER] != NOBODY and words[at + LEASE_DEADLINE_NS] < now]
            return self._release([at for at in still if not self.server.is_pushing(words[at + LEASE_OWNER])])

    def release_all(self) -> None:
        """After a restore: nobody holds anything."""
        self._release([at for at in self._cells if self.words[at + LEASE_OWNER] != NOBODY])

    def settle(self) -> None:
        """Let workers count what they have committed, before an epoch is told of. Here each does so by itself."""

    def leave(self, slot: int) -> None:
        """A worker takes nothing more. Nobody waits for it here."""

    def finished(self, wake: Callable[[], None]) -> None:
        """A worker has done what it had claimed.

        Args:
            wake: wakes the driver, which looks what is committed.
        """
        wake()

    def news(self) -> list[Event]:
        """What happened among workers since the last call, and is told."""
        return []

    def epoch_news(self, epoch: int) -> list[Event]:
        """What is told of the workers at an epoch's end."""
        return []

    def figures(self) -> Mapping[str, Any]:
        """What `Run.metrics` gives beside what every run has."""
        return {}

    @property
    def committed_batches(self) -> int:
        """Batches of the run that are committed."""
        open_cells = self._open_cells()
        return self.plan.first_batch(self._next_number()) - sum(
            self.plan.num_batches(number) - committed for number, committed in open_cells
        )

    def pause(self) -> None:
        """Wait a little, because there is nothing to claim just now."""
        self._naps += 1
        time.sleep(min(_IDLE_S * (1 + self._naps / 10), _IDLE_PATIENCE_S))

    @property
    def epochs_done(self) -> int:
        """Whole passes over the rows whose every batch is committed."""
        first = min((number for number, committed in self._open_cells() if committed < self.plan.num_batches(number)), default=None)
        return (self._next_number() if first is None else first) // self.plan.leases_per_epoch

    @property
    def is_done(self) -> bool:
        """Whether every batch of the run is committed."""
        unfinished = any(committed < self.plan.num_batches(number) for number, committed in self._open_cells())
        return not unfinished and self._next_number() >= self.words[NUM_LEASES]

    def _open_cells(self) -> list[tuple[int, int]]:
        with self.server.locks.held(LEASE_LOCK):
            cells = [(self.words[at + LEASE_NUMBER], self.words[at + LEASE_COMMITTED]) for at in self._cells]
        return [(number, committed) for number, committed in cells if number != NOBODY]

    def _next_number(self) -> int:
        """The next lease. A worker killed while it took one may have left the counter behind."""
        number = self.words[NEXT_LEASE]
        while any(self.words[at + LEASE_NUMBER] == number for at in self._cells):
            number += 1
        return number

    def _take(self, index: int, slot: int) -> Lease:
        at, words = self._cells[index], self.words
        self._naps = 0
        words[at + LEASE_DEADLINE_NS] = time.monotonic_ns() + self._timeout_ns
        words[at + LEASE_OWNER] = slot
        number = words[at + LEASE_NUMBER]
        if self.taken is not None:
            self.taken.note(number, slot)
        return Lease(index, number, words[at + LEASE_EPOCH], words[at + LEASE_COMMITTED], self.plan.num_batches(number))

    def _forget_finished(self, slot: int) -> None:
        for at in self._cells:
            number = self.words[at + LEASE_NUMBER]
            if self.words[at + LEASE_OWNER] == slot and self.words[at + LEASE_COMMITTED] >= self.plan.num_batches(number):
                self._empty(at)

    def _release(self, cells: list[int]) -> list[Released]:
        released = []
        for at in cells:
            if self.words[at + LEASE_OWNER] != NOBODY:
                mark_absent(self.server, self.words[at + LEASE_OWNER])
            number, committed = self.words[at + LEASE_NUMBER], self.words[at + LEASE_COMMITTED]
            if committed >= self.plan.num_batches(number):
                self._empty(at)
                continue
            self.words[at + LEASE_EPOCH] += 1
            self.words[at + LEASE_OWNER] = NOBODY
            released.append(Released(number, self.words[at + LEASE_EPOCH], committed))
        return released

    def _empty(self, at: int) -> None:
        if self.words[NEXT_LEASE] <= self.words[at + LEASE_NUMBER]:
            self.words[NEXT_LEASE] = self.words[at + LEASE_NUMBER] + 1
        self.words[at + LEASE_NUMBER] = NOBODY
        self.words[at + LEASE_OWNER] = NOBODY
