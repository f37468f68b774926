"""What a model that was trained before gives to one that begins: its tensors where they fit, and how it reads rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aimass.core.errors import UsageError
from aimass.core.patterns import fits
from aimass.models.folder import read_parts
from aimass.models.model import Model

if TYPE_CHECKING:
    from aimass.data.dataset import Dataset
    from aimass.data.encoder import Encoder
    from aimass.models.family import FamilyConfig


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
    if (encoder.task, encoder.target) == (start.task, start.target) and set(encoder.classes or ()) == set(start.classes or ()):
        encoder = replace(encoder, classes=start.classes, target_mean=start.target_mean, target_std=start.target_std)
    if encoder is data.encoder:
        return data
    parts = {name: replace(getattr(data, name), encoder=encoder) for name in ("train", "validation", "test")}
    return replace(data, encoder=encoder, **parts)


@torch.no_grad()
def copy_fitting(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> Copied:
    """Copy each tensor that a module has under the same name and in the same shape.

    Args:
        module: changed in place.
        tensors: the trained model's.
        source: its name, for messages.

    Raises:
        UsageError: none fits.

    >>> copy_fitting(nn.Linear(2, 1), {"weight": torch.ones(1, 2), "bias": torch.ones(3)}, "small")
    Copied(copied=('weight',), fresh=('bias',))
    """
    own = module.state_dict()
    fitting = {name for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    for name in fitting:
        own[name].copy_(tensors[name])
    names = [name for name, _ in module.named_parameters()]
    if not fitting.intersection(names):
        known = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise UsageError(
            f"nothing of {source} fits the model: it has {known}, and the model "
            f"{', '.join(f'{name} {tuple(own[name].shape)}' for name in names)}; give the model the same family and widths, or grow=True"
        )
    return Copied(copied=tuple(name for name in names if name in fitting), fresh=tuple(name for name in names if name not in fitting))


def freeze(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Have the parameters whose names fit a pattern keep their values.

    Args:
        module: changed in place.
        patterns: names with `*` and `?`, such as `"features.*"`.

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
            raise UsageError(f"freeze={pattern!r} fits no parameter; there are: {', '.join(parameters)}")
        for name in chosen:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UsageError(f"freeze={','.join(patterns)!r} leaves nothing to train; leave one of {', '.join(parameters)} out")
    return [name for name, parameter in parameters.items() if not parameter.requires_grad]
