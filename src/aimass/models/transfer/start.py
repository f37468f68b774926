"""What a model that was trained before gives to one that begins: its tensors where they fit, and how it reads rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aimass.core.errors import UsageError
from aimass.core.patterns import fits
from aimass.data.schema import listed
from aimass.models.ensembles import EnsembleNetwork
from aimass.models.folder import read_parts
from aimass.models.model import Model

if TYPE_CHECKING:
    from aimass.data.dataset import Dataset
    from aimass.data.encoder import Encoder
    from aimass.models.family import FamilyConfig

MOST_NAMES = 5
"""So many parameters are named in a message."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """A saved model, taken apart.

    Args:
        name: what people call it.
        tensors: every tensor of its network, by name.
        encoder: how it reads rows.
        config: the settings of its family.
    """

    name: str
    tensors: Mapping[str, Tensor]
    encoder: Encoder
    config: FamilyConfig

    @classmethod
    def read(cls, folder: Path, name: str) -> Start:
        """Take apart the model in a folder.

        Raises:
            NotFound: there is none.
            DataError: it is damaged.
        """
        config, encoder, tensors = read_parts(folder)
        return cls(name=name, tensors=tensors, encoder=encoder, config=config)

    @classmethod
    def of(cls, model: Model, name: str) -> Start:
        """Take apart a model that is in memory. The tensors are its own."""
        return cls(name=name, tensors=model.module.state_dict(), encoder=model.encoder, config=model.config)


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What became of a module's parameters: those that were copied, and those that begin afresh."""

    copied: tuple[str, ...]
    fresh: tuple[str, ...]


def read_alike(data: Dataset, start: Encoder) -> Dataset:
    """The data set, read as a trained model reads its rows, as far as it has the same columns: else its weights would see other numbers.

    Inputs of the same names and kinds are scaled as before and keep their categories; classes keep their numbers where they are the
    same, and a number to predict keeps its unit.

    Args:
        data: whose encoder was fitted on its own training rows.
        start: the trained model's.
    """
    encoder = data.encoder
    if encoder.context:
        return data  # bytes are bytes, in windows of whatever length the model has
    if [(column.name, column.kind) for column in encoder.columns] == [(column.name, column.kind) for column in start.columns]:
        encoder = replace(encoder, columns=start.columns)
    if answers_alike(encoder, start):
        encoder = replace(encoder, classes=start.classes, target_mean=start.target_mean, target_std=start.target_std)
    if encoder is data.encoder:
        return data
    parts = {name: replace(getattr(data, name), encoder=encoder) for name in ("train", "validation", "test")}
    return replace(data, encoder=encoder, **parts)


def answers_alike(one: Encoder, other: Encoder) -> bool:
    """Whether outputs mean the same to both: the same target, of the same classes or in numbers. The next byte is always the same."""
    if one.context and other.context:
        return True
    return (one.task, one.target, set(one.classes or ())) == (other.task, other.target, set(other.classes or ()))


def output_parameters(module: nn.Module) -> set[str]:
    """The names of the parameters of the layer that gives the outputs: of each member's, where there are members.

    It is the last of the network's `pieces`; in a module of the caller's, the last part that has parameters of its own.

    >>> sorted(output_parameters(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))))
    ['2.bias', '2.weight']
    """
    if isinstance(module, EnsembleNetwork):
        members = module.members.named_children()
        return {f"members.{number}.{name}" for number, member in members for name in output_parameters(member)}
    pieces: Callable[[], list[nn.Module]] | None = getattr(module, "pieces", None)
    parts = pieces() if pieces else [part for part in module.modules() if next(part.parameters(recurse=False), None) is not None]
    own = {id(parameter) for parameter in parts[-1].parameters()} if parts else set()
    return {name for name, parameter in module.named_parameters() if id(parameter) in own}


@torch.no_grad()
def copy_fitting(module: nn.Module, tensors: Mapping[str, Tensor], afresh: Collection[str] = ()) -> Copied:
    """Copy each layer of which every tensor is there under the same name and in the same shape. One that fits in part begins afresh.

    Args:
        module: changed in place.
        tensors: the trained model's. Tied ones may be there under their first name alone.
        afresh: names of parameters that begin afresh though they would fit, such as those of outputs that mean other classes.

    >>> copy_fitting(nn.Linear(2, 1), {"weight": torch.ones(1, 2), "bias": torch.ones(1)})
    Copied(copied=('weight', 'bias'), fresh=())
    >>> copy_fitting(nn.Linear(2, 1), {"weight": torch.ones(1, 2), "bias": torch.ones(3)})
    Copied(copied=(), fresh=('weight', 'bias'))
    """
    own = module.state_dict()
    firsts: dict[tuple[int, int], str] = {}
    first_of = {
        name: firsts.setdefault((tensor.data_ptr(), tensor.numel()), name) if tensor.numel() else name for name, tensor in own.items()
    }
    found = {name: tensors.get(name, tensors.get(first)) for name, first in first_of.items()}
    odd = {name for name, tensor in found.items() if tensor is None or tensor.shape != own[name].shape or name in afresh}
    layers = {_layer_of(name) for name in odd}
    for name, tensor in found.items():
        if tensor is not None and _layer_of(name) not in layers:
            own[name].copy_(tensor)
    names = [name for name, _ in module.named_parameters()]
    fresh = tuple(name for name in names if _layer_of(name) in layers)
    return Copied(copied=tuple(name for name in names if name not in fresh), fresh=fresh)


def _layer_of(name: str) -> str:
    return name.rpartition(".")[0]


def freeze(module: nn.Module, patterns: Sequence[str], *, has_adapters: bool = False) -> list[str]:
    """Have the parameters whose names fit a pattern keep their values.

    Args:
        module: changed in place.
        patterns: names with `*` and `?`, such as `"features.*"`.
        has_adapters: whether adapters will learn beside what is frozen, so that all of it may be.

    Returns:
        the names of all that are frozen now.

    Raises:
        UsageError: a pattern fits nothing, or nothing is left to train.

    >>> freeze(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), ["0.*"])
    ['0.weight', '0.bias']
    """
    parameters = dict(module.named_parameters())
    for pattern in patterns:
        chosen = [name for name in parameters if fits(name, pattern)]
        if not chosen:
            raise UsageError(f"freeze={pattern!r} fits no parameter; there are: {listed(parameters, MOST_NAMES)}")
        for name in chosen:
            parameters[name].requires_grad_(False)
    if not has_adapters and not any(parameter.requires_grad for parameter in parameters.values()):
        raise UsageError(f"freeze={','.join(patterns)!r} leaves nothing to train; leave one of these out: {listed(parameters, MOST_NAMES)}")
    return [name for name, parameter in parameters.items() if not parameter.requires_grad]
