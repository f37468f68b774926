"""Keeping weights small: a regularised objective, a constant shrinkage, a range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aimass.optim.update import Update

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What is asked of the weights.

    Args:
        strength: λ ≥ 0 of the term λ R(w) in the objective.
        kind: R(w) = ½ ‖w‖₂² or ‖w‖₁.
        shrinkage: γ ≥ 0, by which each step brings each weight closer to 0.
        range: the least and the largest value of any parameter; None for any.
        weight_decay: what the step itself is to decay by, where there is decay.
    """

    strength: float = 0.0
    kind: Literal["l2", "l1"] = "l2"
    shrinkage: float = 0.0
    range: tuple[float, float] | None = None
    weight_decay: float = 0.0


class Bounded(Update):
    """An update that keeps weights small.

        g ← g + λ ∇R(w)                         ∇R(w) = w, or sign(w)
        w ← step(w, g)
        w ← sign(w) · max(|w| − γ, 0)
        w ← min(max(w, lo), hi)

    λ and γ are for what has weight decay: weights, and not biases or the weights of norms. The range is for all parameters.

    Args:
        update: the step.
        bounds: what is asked of the weights. `apply` gets the share that it has: a weight decay of 1, or 0 for biases and norms.

    >>> import torch
    >>> from aimass.optim.update import SGD
    >>> w = torch.tensor([3.0, -0.5, 0.1])
    >>> bounded = Bounded(SGD(), Bounds(strength=0.1, shrinkage=0.2, range=(-1.0, 1.0)))
    >>> bounded.apply(w, torch.zeros(3), (), step=1, lr=1.0, weight_decay=1.0)
    >>> w
    tensor([ 1.0000, -0.2500,  0.0000])
    """

    def __init__(self, update: Update, bounds: Bounds) -> None:
        self._update, self._bounds = update, bounds
        self.states, self.initial, self.elementwise = update.states, update.initial, update.elementwise

    def begin(self, p: Tensor, states: Sequence[Tensor]) -> None:
        self._update.begin(p, states)

    def apply(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        bounds = self._bounds
        if weight_decay and bounds.strength:
            gradient = gradient.add(p if bounds.kind == "l2" else p.sign(), alpha=bounds.strength)
        self._update.apply(p, gradient, states, step, lr, weight_decay * bounds.weight_decay)
        if weight_decay and bounds.shrinkage:
            p.copy_(p.sign() * (p.abs() - bounds.shrinkage).clamp_(min=0.0))
        if bounds.range is not None:
            p.clamp_(*bounds.range)
