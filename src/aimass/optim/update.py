"""Optimizers as in-place updates of slices of one flat vector.

    for each slice:  update.apply(p[a:b], g[a:b], [state[a:b] for state in states], step, lr, weight_decay)

The bits of the result do not depend on how the vector was cut. torch's fused kernels round a rest of fewer elements than a
CPU register holds another way than whole registers, so such a rest goes through a buffer of one whole register.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aimass.optim.config import METHODS, OptimizerConfig

_REGISTER = 16  # float32 elements in the widest CPU register, 512 bits


class Update(ABC):
    """One optimizer's step on any slice of p.

    Attributes:
        states: the names of its state vectors, each as long as p.
        initial: what a state is filled with at the start, where that is not 0.
        elementwise: whether each element's result depends on that element alone.
    """

    states: tuple[str, ...] = ()
    initial: Mapping[str, float] = {}
    elementwise: bool = True

    @abstractmethod
    def apply(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        """Change p and its states in place.

        Args:
            p: a slice of the parameters. Shape (n,), float32, on the CPU.
            gradient: the same slice of the gradient; it is left as it is. Shape (n,).
            states: the same slice of each of `states`, in that order. Shape (n,) each.
            step: how many steps this slice will have taken with this one: 1, 2, ...
            lr: the learning rate of this step.
            weight_decay: λ ≥ 0.
        """

    def begin(self, p: Tensor, states: Sequence[Tensor]) -> None:  # noqa: B027
        """Fit states to a p that is to be kept. `apply` does so by itself in step 1, and most methods have nothing to do.

        Args:
            p: the parameters to begin from, or a slice of them. Shape (n,).
            states: the same slice of each of `states`, as they start.
        """


class InRegisters(Update):
    """What methods share whose kernels round a rest another way: the same bits however p is cut."""

    @abstractmethod
    def _kernel(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        """The method, on slices whose length is a multiple of a register."""

    def apply(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        rest = p.shape[0] % _REGISTER
        if not rest:
            self._kernel(p, gradient, states, step, lr, weight_decay)
            return
        vectors = [p, gradient, *states]
        whole = p.shape[0] - rest
        if whole:
            head = [vector[:whole] for vector in vectors]
            self._kernel(head[0], head[1], head[2:], step, lr, weight_decay)
        tail = [vector[whole:] for vector in vectors]
        padded = [p.new_zeros(_REGISTER) for _ in vectors]
        for buffer, values in zip(padded, tail, strict=True):
            buffer[:rest] = values
        self._kernel(padded[0], padded[1], padded[2:], step, lr, weight_decay)
        for buffer, values in zip(padded, tail, strict=True):
            if values is not tail[1]:
                values.copy_(buffer[:rest])


class SGD(InRegisters):
    """m ← μ·m + g;  p ← p − lr·m, or p − lr·(g + μ·m) with Nesterov's look ahead. Without momentum there is no m.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013, in torch's form.

    >>> p = torch.tensor([1.0, 2.0])
    >>> SGD().apply(p, torch.tensor([1.0, 1.0]), (), step=1, lr=0.5, weight_decay=0.0)
    >>> p
    tensor([0.5000, 1.5000])
    """

    def __init__(self, momentum: float = 0.0, nesterov: bool = False, decoupled: bool = False) -> None:
        self.decoupled = decoupled
        self.momentum, self.nesterov = momentum, nesterov
        self.states = ("momentum_buffer",) if momentum else ()

    def apply(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        if self.momentum or weight_decay:
            super().apply(p, gradient, states, step, lr, weight_decay)
        else:
            p.add_(gradient, alpha=-lr)

    def _kernel(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        if weight_decay and self.decoupled:
            p.mul_(1 - lr * weight_decay)
            weight_decay = 0.0
        torch._fused_sgd_(
            [p],
            [gradient],
            list(states),
            weight_decay=weight_decay,
            momentum=self.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=False,
        )


class Add(Update):
    """p ← p + d, for changes that are steps already."""

    def apply(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        p.add_(gradient)


class Adam(InRegisters):
    """m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  p ← p − lr·m̂ / (√v̂ + ε), where ^ divides by 1 − βᵗ.

    Source: Kingma and Ba, Adam, ICLR 2015; with decoupled decay Loshchilov and Hutter, ICLR 2019.
    """

    states = ("exp_avg", "exp_avg_sq")

    def __init__(self, betas: tuple[float, float], eps: float, decoupled: bool) -> None:
        self.decoupled = decoupled
        self.beta1, self.beta2 = betas
        self.eps = eps
        self._step = torch.zeros(())
        self._fused = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def _kernel(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        self._fused(
            [p],
            [gradient],
            [states[0]],
            [states[1]],
            [],
            [self._step.fill_(step)],
            lr=lr,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )


class Adagrad(InRegisters):
    """s ← s + g²;  p ← p − lr·g / (√s + ε).

    Source: Duchi et al., Adaptive subgradient methods, JMLR 2011.
    """

    states = ("sum",)

    def __init__(self, eps: float, initial_accumulator: float, decoupled: bool) -> None:
        self.decoupled = decoupled
        self.eps = eps
        self.initial = {"sum": initial_accumulator}
        self._step = torch.zeros(())

    def _kernel(self, p: Tensor, gradient: Tensor, states: Sequence[Tensor], step: int, lr: float, weight_decay: float) -> None:
        if weight_decay and self.decoupled:
            p.mul_(1 - lr * weight_decay)
            weight_decay = 0.0
        torch._fused_adagrad_(
            [p],
            [gradient],
            [states[0]],
            [self._step.fill_(step)],
            lr=lr,
            lr_decay=0.0,
            weight_decay=weight_decay,
            eps=self.eps,
            maximize=False,
        )


def build_update(config: OptimizerConfig) -> Update:
    """The update of a configured optimizer. Each equals its namesake in `torch.optim`, where there is one.

    >>> build_update(OptimizerConfig(name="adam")).states
    ('exp_avg', 'exp_avg_sq')
    """
    momentum, eps, decoupled = config.momentum_value, config.eps_value, config.is_decoupled
    match config.name:
        case "sgd" | "momentum" if hasattr(torch, "_fused_sgd_"):
            return SGD(momentum, config.nesterov, decoupled)
        case "adam" | "adamw" if hasattr(torch, "_fused_adam_") and hasattr(torch, "_fused_adamw_"):
            return Adam(config.betas, eps, decoupled)
        case "adagrad" if hasattr(torch, "_fused_adagrad_"):
            return Adagrad(eps, config.initial_accumulator_value, decoupled)
        case "ftrl":
            from aimass.optim.ftrl import ftrl_update

            return ftrl_update(config)
        case "adagrad_da":
            from aimass.optim.adagrad_da import adagrad_da_update

            return adagrad_da_update(config)
        case "proximal_sgd":
            from aimass.optim.proximal_sgd import proximal_sgd_update

            return proximal_sgd_update(config)
    return _adapted(config)


def _adapted(config: OptimizerConfig) -> Update:
    from aimass.optim.adapter import TorchUpdate

    momentum, eps = config.momentum_value, config.eps_value
    keywords: dict[str, object]
    match config.name:
        case "sgd" | "momentum":
            keywords = {"momentum": momentum, "nesterov": config.nesterov}
        case "adam" | "adamw":
            keywords = {"betas": config.betas, "eps": eps}
        case "adagrad":
            keywords = {"eps": eps, "initial_accumulator_value": config.initial_accumulator_value}
        case "rmsprop":
            keywords = {"momentum": momentum, "eps": eps, "alpha": config.alpha, "centered": config.centered}
        case _:
            keywords = dict(config.options)
    return TorchUpdate(METHODS[config.name].torch_class, config.learning_rate, keywords, decoupled=config.is_decoupled)
