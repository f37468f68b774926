"""Proximal gradient descent: a step down the loss, then the exact step of a penalty that has no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

from aimass.core.errors import UsageError
from aimass.optim.adagrad_da import shrink_
from aimass.optim.blocks import InBlocks
from aimass.optim.elementwise import ElementwiseOptimizer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim.optimizer import ParamsT

    from aimass.optim.config import OptimizerConfig

Box = tuple[float | None, float | None]


class ProximalSGDUpdate(InBlocks):
    """p ← prox(p − lr·g), where prox(v) minimises ½‖x − v‖² + lr·(λ₁‖x‖₁ + ½λ₂‖x‖²) over lo ≤ x ≤ hi:

    prox(v) = clip(S(v, lr·l1) / (1 + lr·l2), lo, hi),   S(v, a) = sign(v) · max(|v| − a, 0)
    """

    num_scratch = 0

    def __init__(self, l1: float, l2: float, box: Box | None, decoupled: bool = False) -> None:
        self.l1, self.l2, self.box, self.decoupled = l1, l2, box, decoupled

    def _block(
        self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], scratch: Sequence[Tensor], step: int, lr: float, weight_decay: float
    ) -> None:
        if weight_decay:
            p.mul_(1 - lr * weight_decay)  # the same whether λp is in the gradient or decoupled from it: there are no states
        shrink_(p.add_(gradient, alpha=-lr), lr * self.l1)
        if self.l2:
            p.div_(1 + lr * self.l2)
        if self.box is not None:
            p.clamp_(*self.box)


def proximal_sgd_update(config: OptimizerConfig) -> ProximalSGDUpdate:
    """The update that settings describe."""
    return ProximalSGDUpdate(config.l1, config.l2, config.box)


class ProximalSGD(ElementwiseOptimizer):
    """Proximal gradient descent as a `torch.optim.Optimizer`; see `ProximalSGDUpdate` for L1, L2 and the box.

    With `group` λ, each row x of d elements is shrunk as a whole behind them, which makes it 0 or leaves it:

        x ← max(0, 1 − lr·λ·√d / ‖u‖) · x,      u = x · (1 + lr·l2), the row before L2

    That is exact with L1 and L2, and not with a box, which is refused beside it. A row is what one index of the first dimension names:
    the weights into one unit of an `nn.Linear`, one entry of an `nn.Embedding`; in a vector it is one element. Rows that a sparse
    gradient does not name are not shrunk.

    Args:
        params: tensors, or groups of them.
        lr: the rate > 0.
        l1: λ₁ ≥ 0.
        l2: λ₂ ≥ 0.
        box: the bounds `(lo, hi)` of every element; None for an open one.
        group: λ ≥ 0 of the group lasso.

    Raises:
        UsageError: a setting is out of range, or `group` stands beside a box.

    >>> import torch
    >>> p = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.1, 0.1]]))
    >>> optimizer = ProximalSGD([p], lr=1.0, group=1.0)
    >>> p.grad = torch.zeros(2, 2)
    >>> optimizer.step()
    >>> p.data
    tensor([[2.1515, 2.8686],
            [0.0000, 0.0000]])

    Source: Parikh and Boyd, Proximal algorithms, 2014, sections 4.2 and 6.5; Yuan and Lin, Model selection and estimation in regression
    with grouped variables, JRSS B 2006.
    """

    method = "proximal_sgd"

    def __init__(
        self, params: ParamsT, lr: float = 0.01, l1: float = 0.0, l2: float = 0.0, box: Box | None = None, group: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "l1": l1, "l2": l2, "box": box, "group": group})
        for settings in self.param_groups:
            if not settings["group"] >= 0:
                raise UsageError(f"group={settings['group']}: a penalty is 0 or more")
            if settings["group"] and settings["box"] is not None:
                raise UsageError("group and box have no common closed form; leave one of them out")

    def _finish(self, rows: Tensor, group: dict[str, Any]) -> None:
        if not group["group"] or not rows.numel():
            return
        flat, lr = rows.view(rows.shape[0] if rows.ndim else 1, -1), float(group["lr"])
        norms = flat.norm(dim=1, keepdim=True).mul_(1 + lr * group["l2"])
        flat.mul_(1 - (lr * group["group"] * sqrt(flat.shape[1]) / norms).clamp_(max=1))
