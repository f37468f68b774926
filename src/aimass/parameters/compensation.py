"""Delay compensation: a stale gradient, corrected towards the one that the newest parameters would have given.

    g' = g + λ · g ⊙ g ⊙ (p_now − p_pulled)

g ⊙ g stands for the diagonal of the Hessian (the outer product of the gradient approximates it), and so the correction for the
first-order term of the gradient's Taylor series around p_pulled.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

MEAN_SQUARE = "compensation_mean_square"
DEFAULT_STRENGTH = {"constant": 0.04, "adaptive": 2.0}
_MOMENTUM = 0.95
_EPSILON = 1e-7


class Compensation:
    """Corrects slices of stale gradients. One instance serves one process.

        constant    λ
        adaptive    λ_t = λ / √(s_t + ε),    s_t = 0.95 s_{t−1} + 0.05 g ⊙ g,    ε = 1e-7

    Only operations that IEEE 754 rounds in one way are used, one after another, so that the bits depend neither on the process
    nor on how a vector was cut. An element whose corrected value would not be finite keeps g.

    Args:
        kind: `constant` or `adaptive`.
        strength: λ ≥ 0.

    >>> g, p_now, p_pulled = torch.tensor([2.0, 2.0]), torch.tensor([1.5, 1.0]), torch.tensor([1.0, 1.0])
    >>> Compensation("constant", strength=0.5).apply(g, p_now, p_pulled, ())
    tensor([3., 2.])

    Source: Zheng et al., Asynchronous stochastic gradient descent with delay compensation, ICML 2017, eq. 10 and section 6.
    """

    def __init__(self, kind: str, strength: float) -> None:
        self.kind, self.strength = kind, strength
        self.states = (MEAN_SQUARE,) if kind == "adaptive" else ()
        self._square = self._corrected = torch.empty(0)

    def apply(self, gradient: Tensor, now: Tensor, pulled: Tensor, states: Sequence[Tensor]) -> Tensor:
        """The corrected slice. It is overwritten by the next call.

        Args:
            gradient: a slice of g, which is left as it is. Shape (n,).
            now: the same slice of the parameters that the push meets. Shape (n,).
            pulled: the same slice of those at which g was taken. Shape (n,).
            states: the same slice of each of `states`; changed in place. Shape (n,) each.
        """
        length = gradient.shape[0]
        if length > self._square.shape[0]:
            self._square, self._corrected = torch.empty(length), torch.empty(length)
        square, corrected = self._square[:length], self._corrected[:length]
        torch.mul(gradient, gradient, out=square)
        torch.sub(now, pulled, out=corrected)
        if states:
            mean = states[0]
            corrected.mul_(square)
            mean.mul_(_MOMENTUM).add_(square.mul_(1 - _MOMENTUM)).clamp_(max=torch.finfo(torch.float32).max)
            corrected.mul_(self.strength).div_(torch.add(mean, _EPSILON, out=square).sqrt_())
        else:
            corrected.mul_(square.mul_(self.strength))
        corrected.add_(gradient)
        if not isfinite(torch.dot(corrected, corrected).item()):
            corrected.copy_(torch.where(torch.isfinite(corrected), corrected, gradient))
        return corrected


def build_compensation(kind: str | None, strength: float | None) -> Compensation | None:
    """What settings ask for: None, or a compensation of a kind, by default as strong as in the paper."""
    if kind is None:
        return None
    return Compensation(kind, DEFAULT_STRENGTH[kind] if strength is None else strength)
