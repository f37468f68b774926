"""A parameter server without a server: every worker applies its own updates in place, in memory that all of them share.

A push is whole or undone, whenever a process is killed:

1. The gradient lies in the worker's slot before the push begins, and stays there until the push has ended.
2. Under the first shard's lock the lease is checked and the slot's intent is set. From here on the push counts: whoever finds
   it interrupted finishes it.
3. Each shard, in order, under its lock: name the owner; chunk by chunk, save the chunk, mark it (an odd progress), change it,
   mark it done (an even progress); then write the clock and the owner's sequence, and clear the owner. What the change depends
   on beside the gradient lies in the block too: the push's staleness, and where delays are compensated what its worker pulled.
4. The lease cell learns that the batch is committed, and the intent is cleared.

The kernel frees the lock of a killed holder. The next one to take it sees an owner, puts the marked chunk back and finishes
that push on this shard; `recover` does the same on the others. Every step writes values that can be written twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Self, TypedDict

import numpy as np
import torch

from aimass.core.memory import SharedMemory
from aimass.parameters.base import ParameterServer, Pushed, Snapshot, Ticket
from aimass.parameters.layout import (
    ABSENT,
    CELL_WORDS,
    LEASE_COMMITTED,
    LEASE_EPOCH,
    LEASE_LOCK,
    LEASE_NUMBER,
    LEASE_OWNER,
    NEXT_LEASE,
    NOBODY,
    NUM_STALENESS_BINS,
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
    SLOT_INTENT,
    SLOT_PULLED,
    SLOT_REFUSED,
    SLOT_SEQUENCE,
    SLOT_STALE_MOST,
    SLOT_STALE_SUM,
    SLOT_STALENESS,
    SLOT_STATE,
    SLOT_TAU,
    SLOT_VECTORS,
    TASK_WORDS,
    Layout,
)
from aimass.parameters.locks import ByteLocks
from aimass.parameters.shards import Shard, cut_into_shards, vector

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.optim.update import Update
    from aimass.parameters.compensation import Compensation

NO_CELL = -1
"""What stands for the lease cell of a push that commits no batch."""


class ServerOptions(TypedDict, total=False):
    """What a server can be made with, whatever its kind, beside its memory, its layout, its update and its rate; `SharedMemoryServer` says
    what each is. Servers of other kinds hand them on."""

    weight_decay: Sequence[float] | None
    slot: int | None
    atomic: bool
    scale_steps: bool
    compensation: Compensation | None


class SharedMemoryServer(ParameterServer):
    """One process's handle on the shared block.

    Args:
        memory: the block, made or attached.
        layout: its plan, the same in every process.
        update: applies an optimizer's step to a slice.
        rate: the learning rate of a step, counted from 0.
        weight_decay: for each parameter group of the layout.
        slot: which worker this process is; None for one that only watches.
        atomic: save each chunk before it is changed. Without it a killed worker may leave one chunk torn.
        scale_steps: divide the learning rate of a push by 1 + τ, where τ is its staleness.
        compensation: corrects a stale gradient for the steps that p took meanwhile. The layout keeps what workers pulled, and has
            the compensation's states behind the update's.
    """

    def __init__(
        self,
        memory: SharedMemory,
        layout: Layout,
        update: Update,
        rate: Callable[[int], float],
        *,
        weight_decay: Sequence[float] | None = None,
        slot: int | None = None,
        atomic: bool = True,
        scale_steps: bool = False,
        compensation: Compensation | None = None,
    ) -> None:
        self.memory, self.layout, self.update, self.rate, self.slot, self.atomic = memory, layout, update, rate, slot, atomic
        self.scale_steps, self.compensation = scale_steps, compensation if layout.keeps_pulled else None
        self.locks = ByteLocks(memory.descriptor)
        self.words = memory.view[: 8 * layout.num_words].cast("q")
        self.reals = memory.view[: 8 * layout.num_words].cast("d")
        self.p = vector(memory, layout.vector_offset(0), layout.num_parameters)
        self.states = [vector(memory, layout.vector_offset(1 + i), layout.num_parameters) for i in range(len(layout.states))]
        self.gradients = [vector(memory, layout.gradient_offset(i), layout.num_parameters) for i in range(layout.num_slots)]
        decay = list(weight_decay or [0.0] * len(layout.groups))
        others = len(layout.states) - len(update.states)
        self.shards = cut_into_shards(memory, layout, [self.p, *self.states], self.gradients, decay, others)
        self.pulled: Tensor | None = None
        """Where this worker's parameters lie for others to see, if they do: what is pulled into it needs no copy. (num_parameters,)"""
        if self.compensation is not None and slot is not None:
            self.pulled = vector(memory, layout.pulled_offset(slot), layout.num_parameters)
        self._counts_load = bool(layout.num_servers)
        self._notes_pulls = slot is not None and (self._counts_load or self.pulled is not None)
        self.ticket: Ticket | None = None
        self._slots = [layout.slot(i) for i in range(layout.num_slots)]
        self._target: tuple[int, list[np.ndarray]] = (-1, [])  # where `pull` copied to last: its address, and its part of each shard

    @classmethod
    def create(cls, layout: Layout, update: Update, rate: Callable[[int], float], **options: Any) -> Self:
        """Take the memory and set up an empty server: p and states are zero or what the update starts from.

        Raises:
            StorageError: the block does not fit into memory.
        """
        server = cls(SharedMemory.create(layout.size_bytes), layout, update, rate, **options)
        for name, state in zip(layout.states, server.states, strict=True):
            state.fill_(update.initial.get(name, 0.0))
        server.reals[RATE_FACTOR] = 1.0
        for cell in range(layout.num_cells):
            server.words[layout.cell(cell) + LEASE_NUMBER] = NOBODY
            server.words[layout.cell(cell) + LEASE_OWNER] = NOBODY
        return server

    # ------------------------------------------------------------------------------------------------ pull and push

    @property
    def clock(self) -> int:
        """How many pushes p has met."""
        return self.words[self.shards[0].words + SHARD_CLOCK]

    @property
    def gradient(self) -> Tensor:
        """This worker's gradient slot, shape (num_parameters,): what is computed into it needs no copy to be pushed."""
        assert self.slot is not None, "a server without a slot cannot push"
        return self.gradients[self.slot]

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

    def wait(self, clock: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.clock < clock:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)
        return True

    # ------------------------------------------------------------------------------------------- the steps of a push

    def _admit(self, slot: int, ticket: Ticket | None, staleness: int) -> bool:
        """Step 2, under the first shard's lock."""
        words, at = self.words, self._slots[slot]
        if ticket is None:
            words[at + SLOT_CELL] = NO_CELL
        else:
            cell = self.layout.cell(ticket.cell)
            if words[cell + LEASE_EPOCH] != ticket.epoch or words[cell + LEASE_OWNER] != slot:
                return False
            words[at + SLOT_CELL] = ticket.cell
            words[at + SLOT_COMMITS] = ticket.committed
        words[at + SLOT_TAU] = staleness
        words[at + SLOT_SEQUENCE] += 1
        words[at + SLOT_INTENT] = 1
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
        if words[at + SLOT_CELL] != NO_CELL:
            words[self.layout.cell(words[at + SLOT_CELL]) + LEASE_COMMITTED] = words[at + SLOT_COMMITS]
        words[at + SLOT_INTENT] = 0

    def _refuse(self, slot: int, ticket: Ticket | None) -> Pushed:
        """Count a batch as done although its gradient is not finite, so that nobody computes it for ever."""
        words, at = self.words, self._slots[slot]
        with self.locks.held(self.shards[0].index):
            if ticket is not None:
                cell = self.layout.cell(ticket.cell)
                if words[cell + LEASE_EPOCH] != ticket.epoch or words[cell + LEASE_OWNER] != slot:
                    return Pushed.LEASE_LOST
                words[cell + LEASE_COMMITTED] = ticket.committed
        words[at + SLOT_REFUSED] += 1
        return Pushed.NOT_FINITE

    def _count(self, slot: int, staleness: int, times: int = 1) -> None:
        words, at = self.words, self._slots[slot]
        if staleness < NUM_STALENESS_BINS - 1:
            words[at + SLOT_STALENESS + staleness] += times
            return
        words[at + SLOT_STALENESS + NUM_STALENESS_BINS - 1] += times
        words[at + SLOT_STALE_SUM] += staleness * times
        words[at + SLOT_STALE_MOST] = max(words[at + SLOT_STALE_MOST], staleness)

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
        """Finish what a dead worker had begun. Call it once the process is gone and before the slot is used again.

        Returns:
            whether the worker died inside a push.
        """
        words, at = self.words, self._slots[slot]
        if not words[at + SLOT_INTENT]:
            return False
        for shard in self.shards:
            with self.locks.held(shard.index):
                if words[shard.words + SHARD_OWNER]:
                    self._repair(shard)
                if words[shard.words + SHARD_APPLIED + slot] != words[at + SLOT_SEQUENCE]:
                    self._apply(shard, slot)
        self._commit(slot)
        return True

    def is_pushing(self, slot: int) -> bool:
        """Whether a push of this slot has been admitted and has not ended."""
        return bool(self.words[self._slots[slot] + SLOT_INTENT])

    def progress(self, slot: int) -> tuple[int, ...]:
        """A value that changes while a push of this slot gets on, to tell a slow holder from a stopped one."""
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
            while any(self.is_pushing(slot) for slot in range(self.layout.num_slots)):
                if tend is not None:
                    tend()
                time.sleep(0.0002)
            yield self._moment()

    def _moment(self) -> Snapshot:
        """Everything as it stands, in place."""
        return Snapshot(
            parameters=self.p,
            states=dict(zip(self.layout.states, self.states, strict=True)),
            clock=self.clock,
            cells=self._cells(),
            next_lease=self.words[NEXT_LEASE],
        )

    def _cells(self) -> list[list[int]]:
        """The words of each lease cell."""
        cells = [self.layout.cell(i) for i in range(self.layout.num_cells)]
        return [list(self.words[at : at + CELL_WORDS]) for at in cells]

    def restore(self, snapshot: Snapshot) -> None:
        self.p.copy_(snapshot.parameters)
        for name, state in zip(self.layout.states, self.states, strict=True):
            if name in snapshot.states:
                state.copy_(snapshot.states[name])
            else:
                state.fill_(self.update.initial.get(name, 0.0))  # the snapshot is of another optimizer
        if not set(self.update.states) <= set(snapshot.states):
            self.update.begin(self.p, self.states[: len(self.update.states)])
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

    def _restore_cells(self, snapshot: Snapshot) -> None:
        """Open the leases that were open then, and no others. Epochs only rise, so that nothing from before is admitted."""
        words, layout = self.words, self.layout
        open_cells = snapshot.open_cells
        assert len(open_cells) <= self.layout.num_cells, "the layout was made for this snapshot"
        for index in range(layout.num_cells):
            at = layout.cell(index)
            epoch = words[at + LEASE_EPOCH] + 1
            if index < len(open_cells):
                for word, value in enumerate(open_cells[index]):
                    words[at + word] = value
                epoch = max(epoch, words[at + LEASE_EPOCH])
            else:
                words[at + LEASE_NUMBER] = words[at + LEASE_OWNER] = NOBODY
            words[at + LEASE_EPOCH] = epoch
        words[NEXT_LEASE] = snapshot.next_lease

    # -------------------------------------------------------------------------------------------------------- views

    def buffers(self, slot: int) -> Tensor:
        """A worker's float buffers, shape (num_buffers,)."""
        return vector(self.memory, self.layout.buffers_offset(slot), self.layout.num_buffers)


def is_finite(gradient: Tensor) -> bool:
    """Screen by g·g, which is finite for nearly every good gradient; where it is not, look at each value."""
    return isfinite(torch.dot(gradient, gradient).item()) or bool(torch.isfinite(gradient).all())
