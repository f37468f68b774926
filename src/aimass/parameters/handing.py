"""A server that takes gradients handed to it: a worker lays its gradient in its slot, and waits until p has met it.

No process of its own serves. Whoever has the first shard's lock does, for all whose gradients lie there:

1. *Hand over.* The gradient, the clock at which it was taken and the right to commit its batch lie in the slot; then the one word that
   counts is written. A worker killed before it is served has handed over nothing: its batch goes to another with its lease.
2. *Serve.* Under the first shard's lock each gradient that lies there is admitted as a push of its own, applied on all shards and
   committed, as in `shared_memory`, in the room for undoing of the worker that handed it over.
3. *Wait.* The worker goes on when its push is neither waiting nor under way: p then holds its gradient, and the clock has moved past it.

A push that is under way while nobody has the first lock was left by one who died serving. Whoever serves next finishes it, and so does the
driver once it has buried the dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aimass.parameters.base import Pushed, Snapshot, Ticket
from aimass.parameters.handle import is_finite
from aimass.parameters.layout import (
    SHARD_CLOCK,
    SHARD_OWNER,
    SHARD_PROGRESS,
    SLOT_CELL,
    SLOT_COMMITS,
    SLOT_HANDED,
    SLOT_HANDED_EPOCH,
    SLOT_INTENT,
    SLOT_PULLED,
    SLOT_SERVING,
)
from aimass.parameters.shared_memory import NO_CELL, SharedMemoryServer

if TYPE_CHECKING:
    from torch import Tensor

_NOTHING, _WAITING, _APPLIED, _LOST = range(4)  # what SLOT_HANDED says


class HandingServer(SharedMemoryServer):
    """One process's handle on a block whose gradients are handed over and waited for. Arguments as for `Handle`."""

    def push(self, gradient: Tensor, clock: int, ticket: Ticket | None = None) -> Pushed:
        refused = self.hand_over(gradient, clock, ticket)
        return self.await_parameters() if refused is None else refused

    def hand_over(self, gradient: Tensor, clock: int, ticket: Ticket | None = None) -> Pushed | None:
        """Step 1. None where there is something to wait for now; otherwise why there is not.

        Args:
            gradient, clock, ticket: as for `push`.
        """
        slot, ticket = self.slot, ticket or self.ticket
        assert slot is not None, "a server without a slot cannot push"
        own, words, at = self.gradients[slot], self.words, self._slots[slot]
        if gradient is not own and gradient.data_ptr() != own.data_ptr():
            np.copyto(own.numpy(), gradient.numpy())
        if not is_finite(own):
            return self._refuse(slot, ticket)
        words[at + SLOT_CELL] = NO_CELL if ticket is None else ticket.cell
        words[at + SLOT_COMMITS], words[at + SLOT_HANDED_EPOCH] = (0, 0) if ticket is None else (ticket.committed, ticket.epoch)
        words[at + SLOT_PULLED] = clock
        words[at + SLOT_HANDED] = _WAITING
        return None

    def await_parameters(self) -> Pushed:
        """Step 3, and step 2 where nobody else does it: wait until p has met what this worker handed over."""
        assert self.slot is not None, "a server without a slot hands over nothing"
        words, at, first = self.words, self._slots[self.slot], self.shards[0].index
        while words[at + SLOT_HANDED] == _WAITING or words[at + SLOT_INTENT]:
            with self.locks.held(first):  # whoever serves has it, so that to wait for it is to wait for p
                self._serve(self.slot)
        became, words[at + SLOT_HANDED] = words[at + SLOT_HANDED], _NOTHING
        return Pushed.LEASE_LOST if became == _LOST else Pushed.APPLIED

    # ------------------------------------------------------------------------------------------------------- step 2

    def _serve(self, acting: int) -> None:
        """Finish what one who died had begun, then apply all that was handed over, the own first. Under the first shard's lock."""
        words, slots = self.words, self._slots
        words[slots[acting] + SLOT_SERVING] = 1
        self._finish_all()
        for slot in (*range(acting, len(slots)), *range(acting)):
            if words[slots[slot] + SLOT_HANDED] == _WAITING:
                self._take_in(slot)
        words[slots[acting] + SLOT_SERVING] = 0

    def _finish_all(self) -> None:
        """Nobody is inside a push while this process has the first lock, unless it died there."""
        for slot, at in enumerate(self._slots):
            if self.words[at + SLOT_INTENT]:
                self._finish(slot)

    def _take_in(self, slot: int) -> None:
        words, at, first = self.words, self._slots[slot], self.shards[0]
        if words[first.words + SHARD_OWNER]:
            self._repair(first)
        cell = words[at + SLOT_CELL]
        ticket = None if cell == NO_CELL else Ticket(cell, words[at + SLOT_HANDED_EPOCH], words[at + SLOT_COMMITS])
        staleness = words[first.words + SHARD_CLOCK] - words[at + SLOT_PULLED]
        if not self._admit(slot, ticket, staleness):
            words[at + SLOT_HANDED] = _LOST
            return
        self._count(slot, staleness)
        self._finish(slot)

    def _finish(self, slot: int) -> None:
        """Bring an admitted push to its end, from wherever it is."""
        super().recover(slot)

    def _commit(self, slot: int) -> None:
        self.words[self._slots[slot] + SLOT_HANDED] = _APPLIED  # before it ends: who saw the end and not this would apply it again
        super()._commit(slot)

    # ----------------------------------------------------------------------------------------------------- recovery

    def recover(self, slot: int) -> bool:
        """Finish what a dead worker had begun to apply, whose gradients they were; what it had only handed over is taken back."""
        words, at = self.words, self._slots[slot]
        with self.locks.held(self.shards[0].index):
            inside = bool(words[at + SLOT_INTENT] or words[at + SLOT_SERVING])
            self._finish_all()
            words[at + SLOT_SERVING] = 0
            words[at + SLOT_HANDED] = _NOTHING
        return inside

    def is_pushing(self, slot: int) -> bool:
        at = self._slots[slot]
        return bool(self.words[at + SLOT_INTENT] or self.words[at + SLOT_SERVING])

    def progress(self, slot: int) -> tuple[int, ...]:
        """Of the one who serves, what changes on any shard. Whoever waits for it stands still by right."""
        words = self.words
        if not words[self._slots[slot] + SLOT_SERVING]:
            return ()
        return tuple(words[shard.words + word] for shard in self.shards for word in (SHARD_CLOCK, SHARD_PROGRESS))

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        for at in self._slots:
            self.words[at + SLOT_HANDED] = self.words[at + SLOT_SERVING] = 0
