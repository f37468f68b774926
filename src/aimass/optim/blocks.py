"""Updates written as several operations in a row, on blocks that stay in the processor's cache from the first to the last."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from aimass.optim.update import InRegisters

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 32768
"""Elements of a block: 128 KB a vector in float32, a multiple of every register, and the most that PyTorch leaves to one thread."""


class InBlocks(InRegisters):
    """What the methods share that PyTorch has no kernel for."""

    num_scratch: int = 1
    """How many vectors beside p, g and the states a block needs."""

    @abstractmethod
    def _block(
        self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], scratch: Sequence[Tensor], step: int, lr: float, weight_decay: float
    ) -> None:
        """The method on one block. What the scratch vectors hold is of no meaning."""

    def _kernel(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        size = p.shape[0]
        block = min(size, _BLOCK) if p.device.type == "cpu" else size
        scratch = [torch.empty(block, dtype=p.dtype, device=p.device) for _ in range(self.num_scratch)]
        if block == size:
            self._block(p, gradient, states, scratch, step, lr, weight_decay)
            return
        for parts in zip(*(torch.split(vector, block) for vector in (p, gradient, *states)), strict=True):
            rest = parts[0].shape[0]
            own = scratch if rest == block else [vector[:rest] for vector in scratch]
            self._block(parts[0], parts[1], parts[2:], own, step, lr, weight_decay)
