"""Any elementwise class of `torch.optim` as an update of slices: one parameter is pointed at each slice in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aimass.core.errors import UsageError
from aimass.optim.update import Update

_NUMBERS_KEPT = 256


class TorchUpdate(Update):
    """A class of `torch.optim`, stepping on slices.

    Args:
        name: the class's name in `torch.optim`.
        lr: the learning rate before its schedule.
        keywords: further keywords of the class.
        decoupled: whether weight decay shrinks p in place of being added to the gradient.

    Raises:
        UsageError: the class refuses the keywords.

    >>> TorchUpdate("RMSprop", 0.01, {}, decoupled=False).states
    ('square_avg',)
    """

    def __init__(self, name: str, lr: float, keywords: Mapping[str, object], *, decoupled: bool) -> None:
        self.name, self.lr, self.keywords, self.decoupled = name, lr, dict(keywords), decoupled
        self._optimizer, self._parameter = self._build(num_elements=1)
        state = self._take_a_step(self._optimizer, self._parameter)
        self.states = tuple(key for key, value in state.items() if value.ndim == 1)
        if name == "Rprop":
            self.initial = {"step_size": lr}
        if name == "Adagrad":
            self.initial = {"sum": float(state["sum"])}
        numbers = [key for key in state if key not in (*self.states, "step")]
        self._numbers = _Numbers(self, numbers) if numbers else None

    def apply(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        if weight_decay and self.decoupled:
            p.mul_(1 - lr * weight_decay)
        elif weight_decay:
            gradient = gradient.add(p, alpha=weight_decay)
        self._parameter.data, self._parameter.grad = p, gradient
        state = self._optimizer.state[self._parameter]
        state.update(zip(self.states, states, strict=True))
        if "step" in state:
            state["step"] = torch.tensor(float(step - 1))
        if self._numbers is not None:
            state.update(self._numbers.before(step, lr))
        self._optimizer.param_groups[0]["lr"] = lr
        self._optimizer.step()

    def _build(self, num_elements: int) -> tuple[torch.optim.Optimizer, torch.nn.Parameter]:
        parameter = torch.nn.Parameter(torch.zeros(num_elements))
        try:
            optimizer = getattr(torch.optim, self.name)([parameter], lr=self.lr, foreach=False, **self.keywords)
        except (TypeError, ValueError) as error:
            raise UsageError(f"torch.optim.{self.name} refuses its settings ({error}); leave the wrong one out or correct it") from None
        return optimizer, parameter

    @staticmethod
    def _take_a_step(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> dict[str, Tensor]:
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        return {key: value for key, value in optimizer.state[parameter].items() if isinstance(value, Tensor)}


class _Numbers:
    """State that is one number beside the step, such as NAdam's `mu_product`.

    It follows from the step alone, so it is replayed on a parameter without elements: a slice meets steps that this
    process did not take on it. The last values are kept, because shards may be a few steps apart.
    """

    def __init__(self, update: TorchUpdate, names: Sequence[str]) -> None:
        self._update, self._names = update, names
        self._start()

    def _start(self) -> None:
        self._optimizer, self._parameter = self._update._build(num_elements=0)
        first = {"mu_product": 1.0, "mu": 1.0, "eta": self._update.lr}
        self._after: dict[int, dict[str, Tensor]] = {0: {name: torch.tensor(first[name]) for name in self._names}}
        self._taken = 0

    def before(self, step: int, lr: float) -> dict[str, Tensor]:
        if step - 1 < self._taken and step - 1 not in self._after:
            self._start()
        while self._taken < step - 1:
            self._optimizer.param_groups[0]["lr"] = lr
            state = self._update._take_a_step(self._optimizer, self._parameter)
            self._taken += 1
            self._after[self._taken] = {name: state[name].clone() for name in self._names}
            self._after.pop(self._taken - _NUMBERS_KEPT, None)
        return {name: value.clone() for name, value in self._after[step - 1].items()}
