"""Which worker computes which part of the present round. Part j is worker j's; one whose worker is gone is done by whoever asks first.

A round is the leases b, b+1, ... b+m−1, where b is the next lease and m = min(workers, leases left in the epoch, leases left in the run):
a pure function of the plan, so that nobody has to be told, and the last parts of an epoch that are missing block nobody.

A part's owner alone may write to its slot. The word changes hands under the table's lock: from a dead worker to nobody, when it is
buried; from nobody to a worker that takes the part; and back, once it has filled the part of another. So a late worker has to be
killed before its part can be given away.
"""

from __future__ import annotations

import time
from typing import ClassVar

from aimass.parameters.layout import INCARNATION, LEASE_LIMIT, LEASE_LOCK, NEXT_LEASE, NOBODY, NUM_LEASES, STOP
from aimass.parameters.rounds import RoundServer
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.parameters.views.parts import PART_DEADLINE_NS, PART_OWNER, Part
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.table import Lease, Released
from aimass.training.leases.waiting import WaitingTable


class RoundTable(WaitingTable):
    """The parts of the present round, as one process sees them.

    Args:
        server, plan, timeout_s: as for `LeaseTable`; the server is a `RoundServer`, and a lease of the plan is a part.
    """

    kills_late: ClassVar[bool] = True

    def __init__(self, server: SharedMemoryServer, plan: LeasePlan, timeout_s: float) -> None:
        super().__init__(server, plan, timeout_s)
        assert isinstance(server, RoundServer)
        self._rounds = server
        self._parts = [server.layout.slot(i) for i in range(server.layout.num_slots)]
        self._per_epoch = plan.leases_per_epoch
        self._opened = (-1, time.monotonic_ns())  # the round that was present at the last look, and since when

    def size(self, first: int) -> int:
        """The parts of the round that begins with lease `first`."""
        return min(len(self._parts), self._per_epoch - first % self._per_epoch, self.words[NUM_LEASES] - first)

    def claim(self, slot: int) -> Lease | None:
        """Take a part of the present round: one's own, or one whose worker is gone. Where there is none, help the round on."""
        words, server, own = self.words, self._rounds, self._parts[slot]
        while not words[STOP]:
            first = words[NEXT_LEASE]
            if first >= words[LEASE_LIMIT] or first >= words[NUM_LEASES]:
                self._tell(first)
                return None
            size, present = self.size(first), server.id_of(first)
            self._open_round(first, present)
            if slot < size and words[own + PART_OWNER] == slot and not server.is_filled(slot, present):
                return self._begin(slot, first, size, slot)
            if not server.is_decided(present):
                return self._take_over(slot, first, size)
            if not server.complete():
                return None
        return None

    def _open_round(self, first: int, present: int) -> None:
        """Settle what the round's parts are. Here that is a function of the plan."""

    def _take_over(self, slot: int, first: int, size: int) -> Lease | None:
        """Take a part that is nobody's, rather one's own than another's."""
        if not self._free(first, size):
            return None
        with self.server.locks.held(LEASE_LOCK):
            free = self._free(first, size) if self.words[NEXT_LEASE] == first else []
            if not free:
                return None
            part = slot if slot in free else free[0]
            self.words[self._parts[part] + PART_OWNER] = slot
            return self._begin(part, first, size, slot)

    def _free(self, first: int, size: int) -> list[int]:
        """The parts that are not filled and that nobody is at."""
        words, server = self.words, self._rounds
        present = server.id_of(first)
        return [i for i, at in enumerate(self._parts[:size]) if words[at + PART_OWNER] == NOBODY and not server.is_filled(i, present)]

    def _begin(self, part: int, first: int, size: int, slot: int) -> Lease:
        self._patience.over()
        self.renew(part)
        number = first + part
        if self.taken is not None:
            self.taken.note(number, slot)
        self.part = self._rounds.part = self._part(part, first, size)
        return Lease(part, number, self.words[INCARNATION], 0, self.part.num_batches)

    def _part(self, index: int, first: int, size: int) -> Part:
        num_batches = self.plan.num_batches(first + index)
        return Part(index, size, self.plan.first_batch(first), num_batches, size, num_batches)

    def renew(self, cell: int) -> None:
        self.words[self._parts[cell] + PART_DEADLINE_NS] = time.monotonic_ns() + self._timeout_ns

    def holds(self, lease: Lease) -> bool:
        return self.words[NEXT_LEASE] + lease.cell == lease.number and self.words[INCARNATION] == lease.epoch

    def release(self, slot: int) -> list[Released]:
        with self.server.locks.held(LEASE_LOCK):
            first, words = self.words[NEXT_LEASE], self.words
            owned = [part for part, at in enumerate(self._parts) if words[at + PART_OWNER] == slot]
            for part in owned:
                words[self._parts[part] + PART_OWNER] = NOBODY
            unfilled = self._unfilled(first)
            return [Released(first + part, words[INCARNATION], 0) for part in owned if part in unfilled]

    def _unfilled(self, first: int) -> list[int]:
        size, present = self.size(first) if first < self.words[NUM_LEASES] else 0, self._rounds.id_of(first)
        return [part for part in range(size) if not self._rounds.is_filled(part, present)]

    def late(self) -> list[int]:
        words, now, first = self.words, self.judged_ns(), self.words[NEXT_LEASE]
        if first != self._opened[0]:
            self._opened = (first, now)
        if first >= words[LEASE_LIMIT] or first >= words[NUM_LEASES]:
            return []
        due = self._opened[1] + self._timeout_ns  # for one that has not even begun
        late = [self._parts[part] for part in self._unfilled(first) if max(due, words[self._parts[part] + PART_DEADLINE_NS]) < now]
        return sorted({words[at + PART_OWNER] for at in late} - {NOBODY})

    def put_off(self, seconds: float) -> None:
        self._opened = (-1, 0)
        for at in self._parts:
            self.words[at + PART_DEADLINE_NS] += int(seconds * 1e9)

    def revoke_late(self) -> list[Released]:
        return []

    def extend(self, limit: int) -> None:
        self._opened = (-1, 0)
        super().extend(limit)

    def release_all(self) -> None:
        for at in self._parts:
            self.words[at + PART_OWNER] = NOBODY

    @property
    def committed_batches(self) -> int:
        return self.plan.first_batch(self.words[NEXT_LEASE])

    @property
    def epochs_done(self) -> int:
        return self.words[NEXT_LEASE] // self._per_epoch

    @property
    def is_done(self) -> bool:
        return self.words[NEXT_LEASE] >= self.words[NUM_LEASES]
