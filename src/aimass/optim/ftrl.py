"""FTRL-Proximal: follow the regularised leader, which makes weights exactly zero."""

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


class FtrlUpdate(InBlocks):
    """p minimises the sum of all gradients so far, of λ₁‖p‖₁ + λ₂‖p‖², and of a pull towards every p before.

        n′ = n + g²
        z ← z + f·(g + 2·l2_shrinkage·p) − (n′ᵏ − nᵏ)/lr · p              k = −lr_power, f = the schedule's factor
        p ← (clip(z, −l1, l1) − z) / ((β + n′ᵏ)/lr + 2·l2)

    So p is exactly 0 where |z| ≤ l1. A schedule, and whatever else changes the rate of a step, weighs the gradient: with a rate that
    changed in these formulas, p would jump.

    Args:
        lr: the rate before its schedule.
        keep_start: begin from the p of step 1, so z = −(β + nᵏ)/lr · p, in place of 0.
    """

    states = ("accumulator", "linear")
    num_scratch = 2

    def __init__(
        self,
        lr: float,
        lr_power: float,
        initial_accumulator: float,
        l1: float,
        l2: float,
        l2_shrinkage: float,
        beta: float,
        keep_start: bool,
    ) -> None:
        self.lr, self.power, self.l1, self.l2, self.l2_shrinkage, self.beta = lr, -lr_power, l1, l2, l2_shrinkage, beta
        self.initial = {"accumulator": initial_accumulator}
        self.keep_start = keep_start

    def begin(self, p: Tensor, states: Sequence[Tensor]) -> None:
        if self.keep_start:
            torch.mul(p, -(self.beta + self.initial["accumulator"] ** self.power) / self.lr, out=states[1])

    def _block(
        self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], scratch: Sequence[Tensor], step: int, lr: float, weight_decay: float
    ) -> None:
        if step == 1:
            self.begin(p, states)
        (n, z), (total, root) = states, scratch
        torch.addcmul(n, gradient, gradient, out=total)
        torch.pow(total, self.power, out=root)
        z.add_(gradient, alpha=lr / self.lr)
        if self.l2_shrinkage:
            z.add_(p, alpha=2 * self.l2_shrinkage * lr / self.lr)
        z.addcmul_(n.pow_(self.power).sub_(root), p, value=1 / self.lr)
        n.copy_(total)
        root.mul_(1 / self.lr).add_(self.beta / self.lr + 2 * self.l2)
        torch.clamp(z, -self.l1, self.l1, out=p).sub_(z).div_(root)


def ftrl_update(config: OptimizerConfig) -> FtrlUpdate:
    """The update that settings describe."""
    return FtrlUpdate(
        config.learning_rate,
        config.lr_power,
        config.initial_accumulator_value,
        config.l1,
        config.l2,
        config.l2_shrinkage,
        config.beta,
        bool(config.keep_start),
    )


class Ftrl(ElementwiseOptimizer):
    """FTRL-Proximal as a `torch.optim.Optimizer`. It equals Keras's `Ftrl`; see `FtrlUpdate` for the formulas.

    Args:
        params: tensors, or groups of them.
        lr: α > 0.
        lr_power: −½ lets the rate of an element fall as in Adagrad, 0 keeps it.
        initial_accumulator: what the sums of squared gradients start from.
        l1: λ₁ ≥ 0.
        l2: λ₂ ≥ 0.
        l2_shrinkage: added to the gradient as 2λp, and not to the sum of its squares.
        beta: β ≥ 0.
        keep_start: begin from the tensors' first values. Without it they count for nothing, as in the paper.

    >>> p = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = Ftrl([p], lr=0.1, l1=1.0)
    >>> p.grad = torch.tensor([0.5, -2.0])
    >>> optimizer.step()
    >>> p.data
    tensor([0.0000, 0.0494])

    Source: McMahan et al., Ad click prediction: a view from the trenches, KDD 2013, algorithm 1.
    """

    method = "ftrl"

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        lr_power: float = -0.5,
        initial_accumulator: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        l2_shrinkage: float = 0.0,
        beta: float = 0.0,
        keep_start: bool = False,
    ) -> None:
        settings = {"lr": lr, "lr_power": lr_power, "initial_accumulator": initial_accumulator, "l1": l1, "l2": l2}
        super().__init__(params, settings | {"l2_shrinkage": l2_shrinkage, "beta": beta, "keep_start": keep_start})
