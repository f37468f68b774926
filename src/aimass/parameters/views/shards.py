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
    pulled: list[Tensor]  # one a slot, where the layout keeps what workers pulled
    states: list[Tensor]  # the optimizer's
    others: list[Tensor]  # those that are not the optimizer's
    undo: list[list[tuple[np.ndarray, np.ndarray]]]  # for each slot: (saved copy, the chunk itself) of p and of each state
    weight_decay: float
    rate: float = 1.0  # what the learning rate is multiplied with


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
    memory: SharedMemory,
    layout: Layout,
    vectors: Sequence[Tensor],
    gradients: Sequence[Tensor],
    weight_decay: Sequence[float],
    num_others: int = 0,
) -> list[Shard]:
    """Every shard of p.

    Args:
        memory: the block.
        layout: its plan.
        vectors: p and each state. Shape (num_parameters,) each.
        gradients: of each slot, alike.
        weight_decay: for each parameter group.
        num_others: how many of the last states are not the optimizer's.
    """
    pulled = [vector(memory, layout.pulled_offset(i), layout.num_parameters) for i in range(layout.num_slots if layout.keeps_pulled else 0)]
    states = len(vectors) - num_others
    whole = Chunk(
        p=vectors[0],
        gradients=list(gradients),
        pulled=pulled,
        states=list(vectors[1:states]),
        others=list(vectors[states:]),
        undo=[],
        weight_decay=0.0,
    )
    p = vectors[0].numpy()
    shards = []
    for index in range(layout.num_shards):
        start, stop = layout.shard(index)
        chunks = [_chunk(memory, layout, whole, low, high, group, weight_decay[group]) for low, high, group in layout.chunks(index)]
        shards.append(Shard(index=index, words=layout.shard_words(index), chunks=chunks, p=p[start:stop], start=start, stop=stop))
    return shards


def _chunk(memory: SharedMemory, layout: Layout, whole: Chunk, low: int, high: int, group: int, weight_decay: float) -> Chunk:
    def cut(vectors: list[Tensor]) -> list[Tensor]:
        return [values[low:high] for values in vectors]

    rows = [values.numpy() for values in cut([whole.p, *whole.states, *whole.others])]
    return Chunk(
        p=whole.p[low:high],
        gradients=cut(whole.gradients),
        pulled=cut(whole.pulled),
        states=cut(whole.states),
        others=cut(whole.others),
        undo=[
            [(vector(memory, layout.undo_offset(slot, i), high - low).numpy(), row) for i, row in enumerate(rows)]
            for slot in range(layout.num_slots)
        ],
        weight_decay=weight_decay,
        rate=layout.rate_of(group),
    )
