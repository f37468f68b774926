"""Which worker trains on what between two averages, and when a round has waited long enough.

A lease is what one worker does between two exchanges. A round is decided

    at once             when everybody is in it who is not behind and has something to do, or
    after the grace     when a quorum is in it

A worker is behind once a round was decided without it. The rounds after that do not wait for it: it ends what it began, and its change goes
into the round of that moment. So each row of an epoch is averaged once, perhaps in a later round, and perhaps in the next epoch's: an epoch
is over when all its leases are committed but those of workers that are behind. The last one waits for them too.

Nobody may write to another's slot or lease. So a worker that is late by `lease.timeout` for a single batch is killed before its lease goes
to another.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from aimass.parameters.averages import BEGUN_NS, QUORUM_NS, AverageServer
from aimass.parameters.layout import (
    LEASE_COMMITTED,
    LEASE_DEADLINE_NS,
    LEASE_EPOCH,
    LEASE_LIMIT,
    LEASE_LOCK,
    LEASE_NUMBER,
    LEASE_OWNER,
    NOBODY,
    NUM_LEASES,
    STOP,
    WANTED,
)
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.table import Lease, Released
from aimass.training.leases.waiting import WaitingTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aimass.parameters.shared_memory import SharedMemoryServer

_SHORTEST_GRACE_NS = 1_000_000_000


class AverageTable(WaitingTable):
    """The open leases and the present round, as one process sees them.

    Args:
        server, plan, timeout_s: as for `LeaseTable`; the server is an `AverageServer`.
        quorum: of so many workers how many have to be in a round.
        grace_s: how long a round waits for the others once a quorum is in it; None for as long again as that took, and at least a second.
    """

    kills_late: ClassVar[bool] = True

    def __init__(
        self, server: SharedMemoryServer, plan: LeasePlan, timeout_s: float, *, quorum: Callable[[int], int], grace_s: float | None
    ) -> None:
        super().__init__(server, plan, timeout_s)
        assert isinstance(server, AverageServer)
        self._averages, self._quorum = server, quorum
        self._grace_ns = None if grace_s is None else int(grace_s * 1e9)

    # ------------------------------------------------------------------------------------------------------- leases

    def claim(self, slot: int) -> Lease | None:
        """Take a lease, unless this worker's change waits in the present round. Where there is nothing to take, help the round on."""
        server, words = self._averages, self.words
        while not words[STOP]:
            if server.is_decided(server.round_id):
                if not server.complete():
                    return None
                continue
            with server.locks.held(LEASE_LOCK):
                present = server.round_id
                can_take = not server.is_decided(present) and not server.is_filled(slot, present)
                lease = super().claim(slot) if can_take else None
                if lease is not None:
                    server.begins(slot)
            if lease is not None:
                self._patience.over()
                return lease
            if not self._decide():
                self._tell_at_limit()
                return None
        return None

    def leave(self, slot: int) -> None:
        """A worker takes nothing more: where the round waited for it, it does no longer."""
        if self._decide():
            self._averages.complete(wait=True)

    def holds(self, lease: Lease) -> bool:
        words, at, server = self.words, self._cells[lease.cell], self._averages
        assert server.slot is not None, "only workers hold leases"
        if words[at + LEASE_EPOCH] != lease.epoch or words[at + LEASE_OWNER] != server.slot:
            return False
        return not server.is_filled(server.slot, server.round_id)

    def release(self, slot: int) -> list[Released]:
        with self.server.locks.held(LEASE_LOCK):
            if self._averages.is_filled(slot, self._averages.round_id):
                return []  # what it did is in the round
            return super().release(slot)

    def late(self) -> list[int]:
        now, words, filled = self.judged_ns(), self.words, self._averages.filled()
        owners = [words[at + LEASE_OWNER] for at in self._cells if words[at + LEASE_DEADLINE_NS] < now]
        return sorted({owner for owner in owners if owner != NOBODY and owner not in filled})

    def revoke_late(self) -> list[Released]:
        return []

    @property
    def epochs_done(self) -> int:
        with self.server.locks.held(LEASE_LOCK):
            upcoming, words = self._next_number(), self.words
            is_last = upcoming >= words[NUM_LEASES]
            open_cells = [at for at in self._cells if self._is_open(at) and (is_last or not self._is_behind(at))]
            return min([upcoming, *(words[at + LEASE_NUMBER] for at in open_cells)]) // self.plan.leases_per_epoch

    def _is_open(self, at: int) -> bool:
        """Whether a cell holds a lease that is not committed to its end."""
        number = self.words[at + LEASE_NUMBER]
        return number != NOBODY and self.words[at + LEASE_COMMITTED] < self.plan.num_batches(number)

    def _is_behind(self, at: int) -> bool:
        owner = self.words[at + LEASE_OWNER]
        return owner != NOBODY and self._averages.is_behind(owner)

    def _forget_finished(self, slot: int) -> None:
        for at in self._cells:
            if self.words[at + LEASE_OWNER] == NOBODY != self.words[at + LEASE_NUMBER] and not self._is_open(at):
                self._empty(at)

    # ------------------------------------------------------------------------------------------------------- rounds

    def _decide(self) -> bool:
        """Decide the present round if it has waited long enough. Whether it is decided."""
        server = self._averages
        if not self._is_due():
            return False
        with server.locks.held(LEASE_LOCK):
            if not server.is_decided(server.round_id):
                if not self._is_due():
                    return False
                server.decide()
        return True

    def _is_due(self) -> bool:
        words, filled = self.words, self._averages.filled()
        if not filled:
            return False
        opened = [at for at in self._cells if self._is_open(at) and words[at + LEASE_OWNER] not in filled]
        num_behind = sum(self._is_behind(at) for at in opened)
        unclaimed = sum(words[at + LEASE_OWNER] == NOBODY for at in opened)
        coming = len(opened) - num_behind
        if words[STOP]:
            coming -= unclaimed
        else:
            coming += max(0, min(words[LEASE_LIMIT], words[NUM_LEASES]) - self._next_number())
        wanted = max(1, words[WANTED])
        expected = min(wanted - num_behind, len(filled) + coming)
        return len(filled) >= expected or (len(filled) >= self._quorum(wanted) and self._is_grace_over())

    def _is_grace_over(self) -> bool:
        words, now = self.words, time.monotonic_ns()
        if not words[QUORUM_NS]:
            words[QUORUM_NS] = now
        grace_ns = self._grace_ns
        if grace_ns is None:
            grace_ns = max(_SHORTEST_GRACE_NS, words[QUORUM_NS] - (words[BEGUN_NS] or now))
        return now - words[QUORUM_NS] >= grace_ns

    def _tell_at_limit(self) -> None:
        upcoming = self._next_number()
        if upcoming >= min(self.words[LEASE_LIMIT], self.words[NUM_LEASES]):
            self._tell(upcoming)
