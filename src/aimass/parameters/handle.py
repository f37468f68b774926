"""One process's hold on the shared block: its words, its vectors and its locks, which every server in shared memory works with."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypedDict

import numpy as np
import torch

from aimass.core.memory import SharedMemory
from aimass.parameters.base import ParameterServer, Snapshot, Ticket
from aimass.parameters.counts import Counting
from aimass.parameters.layout import (
    CELL_WORDS,
    LEASE_EPOCH,
    LEASE_NUMBER,
    LEASE_OWNER,
    NEXT_LEASE,
    NOBODY,
    NUM_STALENESS_BINS,
    RATE_FACTOR,
    SHARD_CLOCK,
    SLOT_INTENT,
    SLOT_STALE_MOST,
    SLOT_STALE_SUM,
    SLOT_STALENESS,
    Layout,
)
from aimass.parameters.locks import ByteLocks
from aimass.parameters.views.shards import cut_into_shards, vector

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.optim.update import Update
    from aimass.parameters.compensation import Compensation

    Basis: TypeAlias = tuple[SharedMemory, Layout, Update, Callable[[int], float]]
    """What every server is made on, in this order: the block, made or attached; its layout; the update; the rate. See `Handle`."""


class ServerOptions(TypedDict, total=False):
    """What every server can be made with beside its basis; `Handle` says what each is."""

    weight_decay: Sequence[float] | None
    slot: int | None
    atomic: bool
    scale_steps: bool
    compensation: Compensation | None


class Handle(Counting, ParameterServer):
    """What one process has of a server: views of the block, and what of their use does not depend on the server's kind.

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

    pushes_together = False
    """Whether p moves by what several workers found, each of whom got on with its own part, whoever finishes the whole."""

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
        self._cell_words = [layout.cell(i) for i in range(layout.num_cells)]
        self._target: tuple[int, list[np.ndarray]] = (-1, [])  # where `pull` copied to last: its address, and its part of each shard

    @classmethod
    def create(cls, layout: Layout, update: Update, rate: Callable[[int], float], **options: Any) -> Self:
        """Take the memory and set up an empty server: p and states are zero or what the update starts from.

        Raises:
            StorageError: the block does not fit into memory.
        """
        server = cls(SharedMemory.create(layout.size_bytes), layout, update, rate, **options)
        server._set_up()
        return server

    def _set_up(self) -> None:
        """Make a block of zeros an empty server."""
        for name, state in zip(self.layout.states, self.states, strict=True):
            state.fill_(self.update.initial.get(name, 0.0))
        self.reals[RATE_FACTOR] = 1.0
        for index in range(self.layout.num_cells):
            at = self.layout.cell(index)
            self.words[at + LEASE_NUMBER] = self.words[at + LEASE_OWNER] = NOBODY

    @property
    def clock(self) -> int:
        """How many pushes p has met."""
        return self.words[self.shards[0].words + SHARD_CLOCK]

    @property
    def gradient(self) -> Tensor:
        """This worker's gradient slot, shape (num_parameters,): what is computed into it needs no copy to be pushed."""
        assert self.slot is not None, "a server without a slot cannot push"
        return self.gradients[self.slot]

    def wait(self, clock: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.clock < clock:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)
        return True

    def buffers(self, slot: int) -> Tensor:
        """A worker's float buffers, shape (num_buffers,)."""
        return vector(self.memory, self.layout.buffers_offset(slot), self.layout.num_buffers)

    @abstractmethod
    def recover(self, slot: int) -> bool:
        """Finish what a dead worker had begun. Call it once the process is gone and before the slot is used again.

        Returns:
            whether the worker died inside a push.
        """

    def is_pushing(self, slot: int) -> bool:
        """Whether a push of this slot has been admitted and has not ended."""
        return bool(self.words[self._slots[slot] + SLOT_INTENT])

    @abstractmethod
    def progress(self, slot: int) -> tuple[int, ...]:
        """A value that changes while a push of this slot gets on, to tell a slow holder from a stopped one."""

    def _count(self, slot: int, staleness: int, times: int = 1) -> None:
        """Count pushes by how stale they were."""
        words, at = self.words, self._slots[slot]
        if staleness < NUM_STALENESS_BINS - 1:
            words[at + SLOT_STALENESS + staleness] += times
            return
        words[at + SLOT_STALENESS + NUM_STALENESS_BINS - 1] += times
        words[at + SLOT_STALE_SUM] += staleness * times
        words[at + SLOT_STALE_MOST] = max(words[at + SLOT_STALE_MOST], staleness)

    # ------------------------------------------------------------------------------------------------------ moments

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

    def _restore_vectors(self, snapshot: Snapshot, p: Tensor, states: Sequence[Tensor]) -> None:
        """Copy a snapshot's vectors to where they belong. States that it lacks, since it is of another optimizer, start anew.

        Args:
            snapshot: to go back to.
            p: shape (num_parameters,).
            states: each of the layout's, alike.
        """
        p.copy_(snapshot.parameters)
        for name, state in zip(self.layout.states, states, strict=True):
            if name in snapshot.states:
                state.copy_(snapshot.states[name])
            else:
                state.fill_(self.update.initial.get(name, 0.0))
        if not set(self.update.states) <= set(snapshot.states):
            self.update.begin(p, states[: len(self.update.states)])

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


def is_finite(gradient: Tensor) -> bool:
    """Screen by g·g, which is finite for nearly every good gradient; where it is not, look at each value."""
    return isfinite(torch.dot(gradient, gradient).item()) or bool(torch.isfinite(gradient).all())
