"""A step towards the mean of what workers found by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aimass.optim.update import Update

if TYPE_CHECKING:
    from torch import Tensor


class Outer(Update):
    """p ← step(p, −Δ), with the rate of this optimizer: the mean change Δ of p, with its sign turned, is taken for a gradient.

    Plain SGD at rate 1 gives p + Δ, the mean of the models.

    Args:
        update: the optimizer.
        rate: its learning rate.

    Source: Reddi et al., Adaptive federated optimization, ICLR 2021; Douillard et al., DiLoCo, 2023.

    >>> import torch
    >>> from aimass.optim.update import SGD
    >>> p = torch.tensor([1.0, 2.0])
    >>> Outer(SGD(), rate=0.5).apply(p, torch.tensor([1.0, -1.0]), (), step=1, lr=0.0, weight_decay=0.0)
    >>> p
    tensor([1.5000, 1.5000])
    """

    def __init__(self, update: Update, rate: float) -> None:
        self._update, self._rate = update, rate
        self.states, self.initial, self.elementwise = update.states, update.initial, update.elementwise

    def apply(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        """As for every update, but `gradient` is a change, and `lr`, which is that of the workers' own steps, does not matter."""
        self._update.apply(p, -gradient, states, step, self._rate, weight_decay)
