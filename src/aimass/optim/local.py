"""An optimizer that a worker keeps to itself, for steps between two exchanges with the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from aimass.optim.update import build_update

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.optim.config import OptimizerConfig


class LocalOptimizer:
    """Steps on a whole p, with states of its own, which begin with it.

    Args:
        config: the run's optimizer.
        groups: start, stop, weight decay and the factor of the rate of each stretch of p.

    Attributes:
        states: by what it remembers the steps before. Shape (num_parameters,) each.
        num_steps: how many those were.

    >>> from aimass.optim.config import OptimizerConfig
    >>> p = torch.tensor([1.0, 2.0])
    >>> LocalOptimizer(OptimizerConfig(name="sgd"), [(0, 2, 0.0, 1.0)]).step(p, torch.tensor([1.0, 1.0]), rate=0.5)
    >>> p
    tensor([0.5000, 1.5000])
    """

    def __init__(self, config: OptimizerConfig, groups: list[tuple[int, int, float, float]]) -> None:
        self._update, self._groups = build_update(config), groups
        self.reset()

    def reset(self) -> None:
        """Begin anew, as after a step that led nowhere."""
        size = max(stop for _, stop, _, _ in self._groups)
        self.states = [torch.full((size,), self._update.initial.get(name, 0.0)) for name in self._update.states]
        self.num_steps = 0

    def step(self, p: Tensor, gradient: Tensor, rate: float) -> None:
        """p ← step(p, g).

        Args:
            p: changed in place. Shape (num_parameters,).
            gradient: left as it is. Shape (num_parameters,).
            rate: of this step.
        """
        self.num_steps += 1
        for start, stop, weight_decay, factor in self._groups:
            states = [state[start:stop] for state in self.states]
            self._update.apply(p[start:stop], gradient[start:stop], states, self.num_steps, rate * factor, weight_decay)
