"""Dual averaging with Adagrad's rates: p from the sum of all gradients, with a penalty that grows with the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from aimass.optim.blocks import InBlocks
from aimass.optim.elementwise import ElementwiseOptimizer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim.optimizer import ParamsT

    from aimass.optim.config import OptimizerConfig


class AdagradDAUpdate(InBlocks):
    """p minimises the mean of all gradients so far, λ₁‖p‖₁ + ½λ₂‖p‖², and its distance from where it began in Adagrad's metric.

        G ← G + f·g;   s ← s + g²                                          f = the schedule's factor
        p ← lr · S(√s/lr · p₀ − G, t·l1) / (√s + t·l2·lr),                 S(x, a) = sign(x) · max(|x| − a, 0),   p₀ = 0

    A schedule, and whatever else changes the rate of a step, weighs the gradient: with a rate that changed here, p would jump.

    Args:
        lr: the rate before its schedule.
        keep_start: p₀ is the p of step 1, which is then a state, in place of 0.
    """

    def __init__(self, lr: float, initial_accumulator: float, l1: float, l2: float, keep_start: bool) -> None:
        self.lr, self.l1, self.l2, self.keep_start = lr, l1, l2, keep_start
        self.initial = {"square_sum": initial_accumulator}
        self.states = ("gradient_sum", "square_sum", "start") if keep_start else ("gradient_sum", "square_sum")

    def begin(self, p: Tensor, states: Sequence[Tensor]) -> None:
        if self.keep_start:
            states[2].copy_(p)

    def _block(
        self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], scratch: Sequence[Tensor], step: int, lr: float, weight_decay: float
    ) -> None:
        if step == 1:
            self.begin(p, states)
        gradient_sum, square_sum, (root,) = states[0], states[1], scratch
        gradient_sum.add_(gradient, alpha=lr / self.lr)
        torch.sqrt(square_sum.addcmul_(gradient, gradient), out=root)
        if self.keep_start:
            torch.mul(root, states[2], out=p).mul_(1 / self.lr).sub_(gradient_sum)
        else:
            torch.neg(gradient_sum, out=p)
        root.mul_(1 / self.lr).add_(step * self.l2)
        shrink_(p, step * self.l1).div_(root)


def shrink_(p: Tensor, amount: float) -> Tensor:
    """Soft thresholding in place: p ← sign(p) · max(|p| − amount, 0).

    >>> shrink_(torch.tensor([-3.0, 0.5, 2.0]), 1.0)
    tensor([-2.,  0.,  1.])
    """
    return p.sub_(p.clamp(-amount, amount)) if amount else p


def adagrad_da_update(config: OptimizerConfig) -> AdagradDAUpdate:
    """The update that settings describe."""
    return AdagradDAUpdate(config.learning_rate, config.initial_accumulator_value, config.l1, config.l2, bool(config.keep_start))


class AdagradDA(ElementwiseOptimizer):
    """Adagrad's dual averaging as a `torch.optim.Optimizer`. It equals TensorFlow's; see `AdagradDAUpdate` for the formulas.

    Args:
        params: tensors, or groups of them.
        lr: η > 0.
        initial_accumulator: what the sums of squared gradients start from.
        l1: λ₁ ≥ 0, of each step: what a penalty of t steps does to p depends on the mean gradient, so that unseen features stay 0.
        l2: λ₂ ≥ 0, of each step.
        keep_start: begin from the tensors' first values, and stay near them. Without it they count for nothing, as in the paper.

    >>> p = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = AdagradDA([p], lr=0.1, l1=1.0)
    >>> p.grad = torch.tensor([0.5, -2.0])
    >>> optimizer.step()
    >>> p.data
    tensor([0.0000, 0.0494])

    Source: Duchi, Hazan and Singer, Adaptive subgradient methods, JMLR 2011, sections 2 and 5.1; Xiao, Dual averaging methods for
    regularized stochastic learning, JMLR 2010.
    """

    method = "adagrad_da"

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        initial_accumulator: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        keep_start: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "initial_accumulator": initial_accumulator, "l1": l1, "l2": l2, "keep_start": keep_start})
