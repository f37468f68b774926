"""A parameter server without a server: every worker applies its own updates in place, in memory that all of them share.

A push is whole or undone, whenever a process is killed:

1. The gradient lies in the worker's slot before the push begins, and stays there until the push has ended.
2. Under the first shard's lock the lease is checked and the slot's intent is set. From here on the push counts: whoever finds
   it interrupted finishes it.
3. Each shard, in order, under its lock: name the owner; chunk by chunk, save the chunk, mark it (an odd progress), change it,
   mark it done (an even progress); then write the clock and the owner's sequence, and clear the owner. What the change depends
   on beside the gradient lies in the block too: the push's staleness, and where delays are compensated what its worker pulled.
4. What the worker has reported of it counts, the lease cell learns that the batch is committed, and the intent is cleared.

The kernel frees the lock of a killed holder. The next one to take it sees an owner, puts the marked chunk back and finishes
that push on this shard; `recover` does the same on the others. Every step writes values that can be written twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from aimass.parameters.base import Pushed, Snapshot, Ticket
from aimass.parameters.handle import Handle, is_finite
from aimass.parameters.layout import (
    ABSENT,
    LEASE_COMMITTED,
    LEASE_EPOCH,
    LEASE_LOCK,
    LEASE_OWNER,
    RATE_FACTOR,
    SHARD_APPLIED,
    SHARD_BUSY_NS,
    SHARD_CLOCK,
    SHARD_NEXT_CLOCK,
    SHARD_OWNER,
    SHARD_PROGRESS,
    SHARD_REPAIRS,
    SHARD_SEQUENCE,
    SHARD_WAITED_NS,
    SLOT_CELL,
    SLOT_CLOCK,
    SLOT_COMMITS,
    SLOT_COUNTED,
    SLOT_INTENT,
    SLOT_PULLED,
    SLOT_REFUSED,
    SLOT_REPORTED,
    SLOT_SEQUENCE,
    SLOT_STATE,
    SLOT_TAU,
    SLOT_VECTORS,
    TASK_WORDS,
)

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.parameters.views.shards import Shard

NO_CELL = -1
"""What stands for the lease cell of a push that commits no batch."""

_APPLIES, _SKIPS = 1, 2  # what an intent says: the push changes p, or its gradient is not finite and it only commits


class SharedMemoryServer(Handle):
    """The handle of a worker, or of the driver, whose workers push as they come. Arguments as for `Handle`."""

    # ------------------------------------------------------------------------------------------------ pull and push

    def pull(self, out: Tensor) -> int:
        address, parts = self._target
        if out.data_ptr() != address:
            if out.data_ptr() == self.p.data_ptr():
                return self.clock
            parts = [out.numpy()[shard.start : shard.stop] for shard in self.shards]
            self._target = out.data_ptr(), parts  # which keep its memory, so that nothing else can have this address
        words, locks = self.words, self.locks
        clock = -1
        for shard, part in zip(self.shards, parts, strict=True):
            locks.acquire_shared(shard.index)
            while words[shard.words + SHARD_OWNER]:
                locks.release(shard.index)
                with locks.held(shard.index):
                    self._repair(shard)
                locks.acquire_shared(shard.index)
            if clock < 0:
                clock = words[shard.words + SHARD_CLOCK]
            np.copyto(part, shard.p)
            locks.release(shard.index)
        if self._notes_pulls:
            self._note_pull(out)
        return clock

    def push(self, gradient: Tensor, clock: int, ticket: Ticket | None = None) -> Pushed:
        ticket = ticket or self.ticket
        slot = self.slot
        assert slot is not None, "a server without a slot cannot push"
        own = self.gradients[slot]
        if gradient is not own and gradient.data_ptr() != own.data_ptr():
            np.copyto(own.numpy(), gradient.numpy())
        if not is_finite(own):
            return self._refuse(slot, ticket)
        words, locks, first, counts = self.words, self.locks, self.shards[0], self._counts_load
        asked_ns = perf_counter_ns() if counts else 0
        locks.acquire(first.index)
        entered_ns = perf_counter_ns() if counts else 0
        if words[first.words + SHARD_OWNER]:
            self._repair(first)
        staleness = words[first.words + SHARD_CLOCK] - clock
        words[self._slots[slot] + SLOT_PULLED] = clock
        if not self._admit(slot, ticket, staleness):
            locks.release(first.index)
            return Pushed.LEASE_LOST
        self._apply(first, slot)
        if counts:
            self._note_load(first, asked_ns, entered_ns)
        locks.release(first.index)
        for shard in self.shards[1:]:
            asked_ns = perf_counter_ns() if counts else 0
            locks.acquire(shard.index)
            entered_ns = perf_counter_ns() if counts else 0
            if words[shard.words + SHARD_OWNER]:
                self._repair(shard)
            self._apply(shard, slot)
            if counts:
                self._note_load(shard, asked_ns, entered_ns)
            locks.release(shard.index)
        self._commit(slot)
        self._count(slot, staleness)
        if counts:
            words[self._slots[slot] + SLOT_VECTORS] += 1
        return Pushed.APPLIED

    def _note_pull(self, out: Tensor) -> None:
        assert self.slot is not None, "only workers' pulls are noted"
        if self.pulled is not None and self.pulled.data_ptr() != out.data_ptr():
            self.pulled.copy_(out)
        if self._counts_load:
            self.words[self._slots[self.slot] + SLOT_VECTORS] += 1

    def _note_load(self, shard: Shard, asked_ns: int, entered_ns: int) -> None:
        self.words[shard.words + SHARD_WAITED_NS] += entered_ns - asked_ns
        self.words[shard.words + SHARD_BUSY_NS] += perf_counter_ns() - entered_ns

    # ------------------------------------------------------------------------------------------- the steps of a push

    def _admit(self, slot: int, ticket: Ticket | None, staleness: int) -> bool:
        """Step 2, under the first shard's lock."""
        words, at = self.words, self._slots[slot]
        if ticket is None:
            words[at + SLOT_CELL] = NO_CELL
        else:
            cell = self._cell_words[ticket.cell]
            if words[cell + LEASE_EPOCH] != ticket.epoch or words[cell + LEASE_OWNER] != slot:
                return False
            words[at + SLOT_CELL] = ticket.cell
            words[at + SLOT_COMMITS] = ticket.committed
        words[at + SLOT_TAU] = staleness
        words[at + SLOT_SEQUENCE] += 1
        words[at + SLOT_INTENT] = _APPLIES
        return True

    def _apply(self, shard: Shard, slot: int) -> None:
        """Step 3, under the shard's lock."""
        words, at = self.words, shard.words
        words[at + SHARD_SEQUENCE] = words[self._slots[slot] + SLOT_SEQUENCE]
        words[at + SHARD_NEXT_CLOCK] = words[at + SHARD_CLOCK] + 1
        words[at + SHARD_PROGRESS] = 0
        words[at + SHARD_OWNER] = slot + 1
        self._change(shard, slot, 0)

    def _change(self, shard: Shard, slot: int, first_chunk: int) -> None:
        words, at, update, atomic = self.words, shard.words, self.update, self.atomic
        step = words[at + SHARD_NEXT_CLOCK]
        rate = self.rate(step - 1) * self.reals[RATE_FACTOR]
        if self.scale_steps:
            rate /= 1 + words[self._slots[slot] + SLOT_TAU]
        compensation = self.compensation
        progress = 2 * first_chunk
        for chunk in shard.chunks[first_chunk:] if first_chunk else shard.chunks:
            if atomic:
                for saved, row in chunk.undo[slot]:
                    np.copyto(saved, row)
            words[at + SHARD_PROGRESS] = progress + 1
            gradient = chunk.gradients[slot]
            if compensation is not None:
                gradient = compensation.apply(gradient, chunk.p, chunk.pulled[slot], chunk.others)
            update.apply(chunk.p, gradient, chunk.states, step, rate * chunk.rate, chunk.weight_decay)
            progress += 2
            words[at + SHARD_PROGRESS] = progress
        words[at + SHARD_APPLIED + slot] = words[at + SHARD_SEQUENCE]
        words[at + SHARD_CLOCK] = step
        words[at + SHARD_OWNER] = 0

    def _commit(self, slot: int) -> None:
        """Step 4."""
        words, at = self.words, self._slots[slot]
        words[at + SLOT_COUNTED] = words[at + SLOT_REPORTED]  # first, since the batch may end the epoch that its loss belongs to
        cell = words[at + SLOT_CELL]
        if cell != NO_CELL:
            words[self._cell_words[cell] + LEASE_COMMITTED] = words[at + SLOT_COMMITS]
        words[at + SLOT_INTENT] = 0

    def _refuse(self, slot: int, ticket: Ticket | None) -> Pushed:
        """Count a batch as done although its gradient is not finite, so that nobody computes it for ever."""
        if not self._skip(slot, ticket):
            return Pushed.LEASE_LOST
        self.words[self._slots[slot] + SLOT_REFUSED] += 1
        return Pushed.NOT_FINITE

    def _skip(self, slot: int, ticket: Ticket | None) -> bool:
        """Commit batches that change nothing, in one step too. False where their lease had gone to another."""
        words, at = self.words, self._slots[slot]
        with self.locks.held(self.shards[0].index):
            words[at + SLOT_CELL] = NO_CELL
            if ticket is not None:
                cell = self._cell_words[ticket.cell]
                if words[cell + LEASE_EPOCH] != ticket.epoch or words[cell + LEASE_OWNER] != slot:
                    return False
                words[at + SLOT_CELL], words[at + SLOT_COMMITS] = ticket.cell, ticket.committed
            words[at + SLOT_INTENT] = _SKIPS
            self._commit(slot)
        return True

    # ----------------------------------------------------------------------------------------------------- recovery

    def _repair(self, shard: Shard) -> None:
        """Finish, on one locked shard, the push whose process died while it held this lock."""
        words, at = self.words, shard.words
        slot, progress = words[at + SHARD_OWNER] - 1, words[at + SHARD_PROGRESS]
        chunk = progress // 2
        if progress % 2:
            if self.atomic:
                for saved, row in shard.chunks[chunk].undo[slot]:
                    np.copyto(row, saved)
            else:
                chunk += 1
        self._change(shard, slot, chunk)
        words[at + SHARD_REPAIRS] += 1

    def recover(self, slot: int) -> bool:
        words, at = self.words, self._slots[slot]
        if not words[at + SLOT_INTENT]:
            return False
        for shard in self.shards:
            with self.locks.held(shard.index):
                if words[shard.words + SHARD_OWNER]:
                    self._repair(shard)
                if self._is_missing(shard, slot):
                    self._apply(shard, slot)
        self._commit(slot)
        return True

    def _is_missing(self, shard: Shard, slot: int) -> bool:
        """Whether a shard has not met the push that a slot intends."""
        words, at = self.words, self._slots[slot]
        return words[at + SLOT_INTENT] != _SKIPS and words[shard.words + SHARD_APPLIED + slot] != words[at + SLOT_SEQUENCE]

    def progress(self, slot: int) -> tuple[int, ...]:
        words = self.words
        sequence = words[self._slots[slot] + SLOT_SEQUENCE]
        owned = [words[s.words + SHARD_PROGRESS] for s in self.shards if words[s.words + SHARD_OWNER] == slot + 1]
        return (sequence, sum(words[s.words + SHARD_APPLIED + slot] for s in self.shards), *owned)

    # ------------------------------------------------------------------------------------------ snapshot and restore

    @contextmanager
    def paused(self, tend: Callable[[], None] | None = None) -> Iterator[Snapshot]:
        first, words = self.shards[0].index, self.words
        with self.locks.held(first), self.locks.held(LEASE_LOCK):
            if words[self.shards[0].words + SHARD_OWNER]:
                self._repair(self.shards[0])
            self._await_pushes(tend)
            yield self._moment()

    def _await_pushes(self, tend: Callable[[], None] | None) -> None:
        """Wait for the pushes under way. The caller keeps new ones out."""
        while any(self.is_pushing(slot) for slot in range(self.layout.num_slots)):
            if tend is not None:
                tend()
            time.sleep(0.0002)

    def restore(self, snapshot: Snapshot) -> None:
        self._restore_vectors(snapshot, self.p, self.states)
        for shard in self.shards:
            self.words[shard.words + SHARD_CLOCK] = snapshot.clock
            self.words[shard.words + SHARD_OWNER] = 0
            for slot, at in enumerate(self._slots):
                self.words[shard.words + SHARD_APPLIED + slot] = self.words[at + SLOT_SEQUENCE]
        for at in self._slots:
            self.words[at + SLOT_INTENT] = self.words[at + SLOT_CLOCK] = self.words[at + SLOT_PULLED] = 0
            self.words[at + SLOT_STATE] = ABSENT
        for word in range(self.layout.num_tasks * 2 * TASK_WORDS):
            self.words[self.layout.task(0) + word] = 0
        self._restore_cells(snapshot)
