"""An `Update` as a `torch.optim.Optimizer`: for loops of one's own, and for gradients that are sparse."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from aimass.core.errors import UsageError
from aimass.optim.config import METHODS, OptimizerConfig
from aimass.optim.update import Update, build_update

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT


class ElementwiseOptimizer(torch.optim.Optimizer):
    """Steps on each tensor: on all its elements or, where its gradient is sparse, on the rows that the gradient names.

    A sparse gradient is a COO tensor with one sparse dimension, as `nn.Embedding(..., sparse=True)` gives. The rows that it does not
    name keep their values and their states.

    Args:
        params: tensors, or groups of them, each with settings of its own.
        settings: those of `OptimizerConfig`, `lr` among them.

    Raises:
        UsageError: a setting is out of range, or does not go with another.
    """

    method: str
    """The name of the optimizer, as settings have it."""

    def __init__(self, params: ParamsT, settings: dict[str, Any]) -> None:
        super().__init__(params, settings)
        for group in self.param_groups:
            group.setdefault("initial_lr", group["lr"])
            self._update_of(group)

    def _update_of(self, group: dict[str, Any]) -> Update:
        """What a group's settings do to a slice. A rate that changes later is told to each step."""
        settings = {name: group[name] for name in METHODS[self.method].settings}
        return build_update(OptimizerConfig.parse({"name": self.method, "lr": float(group["initial_lr"]), **settings}))

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        Args:
            closure: computes the gradients anew, and returns the loss.

        Returns:
            what the closure returned.

        Raises:
            UsageError: a gradient is sparse in more than its first dimension.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._update_of(group)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_on(parameter, update, group)
        return loss

    def _step_on(self, parameter: Tensor, update: Update, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None, "the caller has looked"
        if not state:
            state["step"] = 0
            for name in update.states:
                state[name] = torch.full_like(parameter, update.initial.get(name, 0.0), memory_format=torch.contiguous_format)
            update.begin(parameter.reshape(-1), [state[name].view(-1) for name in update.states])
        state["step"] += 1
        vectors = [state[name] for name in update.states]
        if not gradient.is_sparse:
            self._step_on_rows(parameter, gradient, vectors, update, state["step"], group)
            return
        if gradient.sparse_dim() != 1:
            raise UsageError(
                f"a gradient of shape {tuple(gradient.shape)} is sparse in {gradient.sparse_dim()} dimensions; give one that is sparse in "
                "its rows alone, as nn.Embedding(..., sparse=True) does, or a dense one"
            )
        gradient = gradient.coalesce()
        rows = gradient.indices()[0]
        taken = [parameter.index_select(0, rows), *(vector.index_select(0, rows) for vector in vectors)]
        self._step_on_rows(taken[0], gradient.values(), taken[1:], update, state["step"], group)
        for vector, changed in zip([parameter, *vectors], taken, strict=True):
            vector.index_copy_(0, rows, changed)

    def _step_on_rows(self, rows: Tensor, gradient: Tensor, states: list[Tensor], update: Update, step: int, group: dict[str, Any]) -> None:
        """Step on some rows of a tensor, or on all. Shapes are alike: (num_rows, ...)."""
        p = rows.contiguous()
        update.apply(p.view(-1), gradient.reshape(-1), [state.view(-1) for state in states], step, float(group["lr"]), 0.0)
        self._finish(p, group)
        if p is not rows:
            rows.copy_(p)

    def _finish(self, rows: Tensor, group: dict[str, Any]) -> None:
        """What comes behind the update and sees whole rows. Shape (num_rows, ...)."""
