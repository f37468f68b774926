"""One worker's p and optimizer's states in the shared block, chunk by chunk, and the gradient that changes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from aimass.parameters.views.shards import vector

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aimass.core.memory import SharedMemory
    from aimass.parameters.layout import Layout

_REPLICA_LOCK = 1 << 41


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a replica, under one parameter group."""

    p: Tensor
    gradient: Tensor
    states: list[Tensor]
    saved: list[tuple[np.ndarray, np.ndarray]]  # (copy, the chunk itself) of p and of each state
    weight_decay: float
    rate: float  # what the learning rate is multiplied with


class Replica:
    """One worker's p and states, and the gradient that changes them.

    Attributes:
        p: shape (num_parameters,).
        states: each alike.
        wire: the gradient, and the numbers that travel behind it: what is summed over the workers.
    """

    def __init__(self, memory: SharedMemory, layout: Layout, slot: int, weight_decay: Sequence[float]) -> None:
        self.at, self.lock = layout.slot(slot), _REPLICA_LOCK + slot
        replica = slot if layout.num_replicas > 1 else 0
        vectors = [vector(memory, layout.vector_offset(i, replica), layout.num_parameters) for i in range(1 + len(layout.states))]
        self.p, self.states = vectors[0], vectors[1:]
        self.wire = vector(memory, layout.gradient_offset(slot), layout.num_parameters + layout.num_extras)
        self.gradient = self.wire[: layout.num_parameters]
        self.extras = self.wire[layout.num_parameters :]
        self._memory, self._layout, self._slot, self._weight_decay = memory, layout, slot, weight_decay

    @cached_property
    def chunks(self) -> list[Chunk]:
        """All of p, in order."""
        return [self._chunk(low, high, group) for low, high, group in self._cut()]

    def _cut(self) -> Iterator[tuple[int, int, int]]:
        layout = self._layout
        return (span for shard in range(layout.num_shards) for span in layout.chunks(shard))

    def gradient_of(self, chunk: Chunk) -> Tensor:
        """The gradient by which a chunk is changed."""
        return chunk.gradient

    def _chunk(self, low: int, high: int, group: int) -> Chunk:
        rows = [values[low:high].numpy() for values in (self.p, *self.states)]
        undo = [vector(self._memory, self._layout.undo_offset(self._slot, i), high - low).numpy() for i in range(len(rows))]
        states = [state[low:high] for state in self.states]
        saved = list(zip(undo, rows, strict=True))
        return Chunk(self.p[low:high], self.gradient[low:high], states, saved, self._weight_decay[group], self._layout.rate_of(group))
