"""Shards and chunks: the views through which a push reads and changes the shared block, made once in each process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.core.memory import SharedMemory
    from aimass.parameters.layout import Layout


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a shard: views of p, of each slot's gradient, of the states, and of each slot's saved copies."""

    p: Tensor
    gradients: list[Tensor]  # one a slot
    states: list[Tensor]
    undo: list[list[tuple[np.ndarray, np.ndarray]]]  # for each slot: (saved copy, the chunk itself) of p and of each state
    weight_decay: float


@dataclass(frozen=True, slots=True)
class Shard:
    """What one lock guards."""

    index: int
    words: int
    chunks: list[Chunk]
    p: np.ndarray
    start: int
    stop: int


def vector(memory: SharedMemory, offset_bytes: int, length: int) -> Tensor:
    """A float32 view of the block. Shape (length,)."""
    if length == 0:
        return torch.empty(0)
    return torch.frombuffer(memory.view, dtype=torch.float32, count=length, offset=offset_bytes)


def cut_into_shards(
    memory: SharedMemory, layout: Layout, vectors: Sequence[Tensor], gradients: Sequence[Tensor], weight_decay: Sequence[float]
) -> list[Shard]:
    """Every shard of p.

    Args:
        memory: the block.
        layout: its plan.
        vectors: p and each state. Shape (num_parameters,) each.
        gradients: of each slot, alike.
        weight_decay: for each parameter group.
    """
    p = vectors[0].numpy()
    shards = []
    for index in range(layout.num_shards):
        start, stop = layout.shard(index)
        chunks = [_chunk(memory, layout, vectors, gradients, low, high, weight_decay[group]) for low, high, group in layout.chunks(index)]
        shards.append(Shard(index=index, words=layout.shard_words(index), chunks=chunks, p=p[start:stop], start=start, stop=stop))
    return shards


def _chunk(
    memory: SharedMemory, layout: Layout, vectors: Sequence[Tensor], gradients: Sequence[Tensor], low: int, high: int, weight_decay: float
) -> Chunk:
    rows = [values[low:high].numpy() for values in vectors]
    return Chunk(
        p=vectors[0][low:high],
        gradients=[gradient[low:high] for gradient in gradients],
        states=[state[low:high] for state in vectors[1:]],
        undo=[
            [(vector(memory, layout.undo_offset(slot, i), high - low).numpy(), row) for i, row in enumerate(rows)]
            for slot in range(layout.num_slots)
        ],
        weight_decay=weight_decay,
    )
