"""Low-rank adapters: a frozen linear layer learns a change of its weights that is the product of two small matrices."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aimass.core.errors import UsageError
from aimass.core.patterns import fits

if TYPE_CHECKING:
    from aimass.models.transfer.config import AdapterConfig


class LoRALinear(nn.Module):
    """y = W x + b + (α / r) · B A x, with W and b frozen, and B = 0 at first, so that the layer begins as it was.

    Args:
        linear: the layer that is adapted; it is kept, and frozen.
        rank: r. A is (rank, in_features), B is (out_features, rank).
        alpha: α.

    Source: Hu et al., LoRA: low-rank adaptation of large language models, ICLR 2022.

    >>> linear = nn.Linear(3, 2)
    >>> torch.equal(LoRALinear(linear, rank=1, alpha=1.0)(torch.ones(1, 3)), linear(torch.ones(1, 3)))
    True
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.linear, self.scale = linear.requires_grad_(False), alpha / rank
        like = linear.weight
        self.lora_a = nn.Parameter(torch.empty(rank, linear.in_features, dtype=like.dtype))
        self.lora_b = nn.Parameter(torch.zeros(linear.out_features, rank, dtype=like.dtype))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, values: Tensor) -> Tensor:
        """Outputs (..., out_features) of values (..., in_features)."""
        outputs: Tensor = self.linear(values)
        return outputs + F.linear(F.linear(values, self.lora_a), self.lora_b) * self.scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The ordinary layer that gives the same: W + (α / r) · B A."""
        self.linear.weight.add_(self.lora_b @ self.lora_a, alpha=self.scale)
        return self.linear


def add_adapters(module: nn.Module, config: AdapterConfig, fresh: Collection[str]) -> list[str]:
    """Freeze what a module has learnt, and put an adapter beside each of its linear layers.

    Args:
        module: changed in place. What is frozen in it stays so, and an adapter beside it learns.
        config: which layers, and how wide.
        fresh: names of parameters that have learnt nothing yet, such as those of a new head: they stay trainable, without an adapter.

    Returns:
        the names of the layers that have one.

    Raises:
        UsageError: there is no layer to adapt.
    """
    linear = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    learnt = {name: layer for name, layer in linear.items() if f"{name}.weight" not in fresh and not _is_shared(module, layer)}
    chosen = {name: layer for name, layer in learnt.items() if name and any(fits(name, pattern) for pattern in config.modules)}
    if not chosen:
        raise _nothing_to_adapt(module, config, has_linear=bool(linear), learnt=list(learnt))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in fresh and parameter.requires_grad)
    for name, layer in chosen.items():
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, LoRALinear(layer, config.rank, config.alpha))
    return list(chosen)


def _nothing_to_adapt(module: nn.Module, config: AdapterConfig, *, has_linear: bool, learnt: list[str]) -> UsageError:
    """Why no layer has an adapter: there is none of the class that is adapted, none that has learnt anything, or none of that name."""
    goes = "adapter='lora' puts small matrices beside the layers of class torch.nn.Linear inside a network"
    if not has_linear:
        return UsageError(
            f"{goes}, and a {type(module).__name__} holds its weights itself, in no such layer; "
            "train it without an adapter, or start from a model that has layers, such as an mlp or a transformer"
        )
    if not any(learnt):
        return UsageError(
            f"{goes}, and of this {type(module).__name__} every such layer is new, shares its weights with another, or is the network "
            "itself; train without an adapter"
        )
    return UsageError(
        f"{goes}, and none of them fits adapter.modules={', '.join(config.modules)}; there are: {', '.join(filter(None, learnt))}"
    )


def merge_adapters(module: nn.Module) -> nn.Module:
    """Turn every adapted layer into the ordinary one that gives the same, and freeze nothing any more. In place."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoRALinear):
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, layer.merged())
    return module.requires_grad_(True)


def _is_shared(module: nn.Module, layer: nn.Linear) -> bool:
    """Whether another layer has the same weights: a change of one would be a change of the other."""
    holders = [part for part in module.modules() for weight in part.parameters(recurse=False) if weight is layer.weight]
    return len(holders) > 1
