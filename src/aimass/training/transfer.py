"""A run that goes out from a model that was trained before: its data is read alike, its network begins with what fits.

The model is copied into the run's folder, `start/`, so that the run can be resumed whatever becomes of it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aimass.core.errors import NotFound, UsageError
from aimass.core.patterns import fits
from aimass.models.config import CUSTOM, build_module
from aimass.models.custom import check_module
from aimass.models.family import FAMILIES
from aimass.models.folder import copy_model
from aimass.models.model import Model
from aimass.models.tasks import task_of
from aimass.models.transfer.lora import add_adapters
from aimass.models.transfer.start import Copied, Start, copy_fitting, freeze, read_alike
from aimass.training.events import StartedFrom
from aimass.training.opening import network_shape, seeding
from aimass.training.run import Run

if TYPE_CHECKING:
    from torch import nn

    from aimass.data.dataset import Dataset
    from aimass.training.config import TrainConfig

FOLDER = "start"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The network as a run begins, and what is told of it."""

    module: nn.Module
    started: StartedFrom


@dataclass(frozen=True, kw_only=True)
class Named:
    """A saved model that people know by another name than its folder's.

    Args:
        name: such as `churn@3`, of a registry.
        folder: what `Model.save` wrote.
    """

    name: str
    folder: Path


def find_start(value: Any, home: Path | None) -> tuple[str, Path | Model] | None:
    """The model behind `start_from`, and what to call it.

    Args:
        value: a `Model`, a `Run`, a model's folder, a `Named` one, or a run's id or folder; None for none.
        home: where runs are looked for.

    Raises:
        NotFound: there is no such model, or the run left none.
        UsageError: it names none.
    """
    if value is None:
        return None
    if isinstance(value, Model):
        return f"a model from memory ({value.config.name})", value
    if isinstance(value, Run):
        return value.id, value.model
    if isinstance(value, Named):
        return value.name, value.folder
    if not isinstance(value, str | Path):
        raise UsageError(f"start_from={value!r} is no model; give a model's folder, a run's id, or what aimass.load gives")
    folder = Path(value).expanduser()
    if (folder / "model.json").is_file():
        return str(value), folder
    try:
        run = Run.open(value, home)
    except NotFound:
        raise NotFound(
            f"start_from={str(value)!r} is neither a folder that Model.save wrote nor a run; `aimass runs list` shows the runs"
        ) from None
    if not (run.folder / "model").is_dir():
        raise NotFound(f"{run.id} left no model to start from: it is {run.state}; resume it with `aimass train --resume {run.id}`")
    return run.id, run.folder / "model"


def keep_start(found: Path | Model, folder: Path) -> None:
    """Copy a model into a run's folder."""
    if isinstance(found, Model):
        found.save(folder / FOLDER)
    else:
        copy_model(found, folder / FOLDER)


def read_start(config: TrainConfig, folder: Path) -> Start | None:
    """The model that a run began with, from the run's folder; None where it began afresh."""
    return None if config.start_from is None else Start.read(folder / FOLDER, config.start_from)


def adopt(config: TrainConfig, data: Dataset, folder: Path) -> Dataset:
    """The data as the model in a run's folder reads it."""
    start = read_start(config, folder)
    return data if start is None else read_alike(data, start.encoder)


def rehearse(
    config: TrainConfig, data: Dataset, module: nn.Module | None, found: tuple[str, Path | Model] | None
) -> tuple[Dataset, Prepared | None]:
    """See, before anything starts, whether the run can begin so.

    Args:
        config: the run's settings.
        data: as it was loaded.
        module: the caller's.
        found: what `find_start` gave.

    Returns:
        the data, read as the model to begin with reads it; and the network that was seen to work, where the run is to begin with it.

    Raises:
        UsageError, DataError: it cannot.
    """
    start = None
    if found is not None:
        start = Start.of(found[1], found[0]) if isinstance(found[1], Model) else Start.read(found[1], found[0])
        data = read_alike(data, start.encoder)
    return data, rehearse_with(config, data, module, start)


def rehearse_with(config: TrainConfig, data: Dataset, module: nn.Module | None, start: Start | None) -> Prepared | None:
    """The same, with the model to begin with at hand, and the data read as it reads them.

    Raises:
        UsageError: the run cannot begin so.
    """
    random = torch.get_rng_state()
    try:
        if config.transfers or module is not None:
            prepared = prepare(config, data, module, start)
            built = prepared.module
        else:
            with torch.device("meta"):  # only names are looked at, and it need not have values
                prepared, built = None, build_module(config.model, *network_shape(data))
    finally:
        torch.set_rng_state(random)
    names = [name for name, parameter in built.named_parameters() if parameter.requires_grad]
    for pattern in config.optimizer.rates:
        if not any(fits(name, pattern) for name in names):
            raise UsageError(f"optimizer.rates={pattern!r} fits no parameter that learns; there are: {', '.join(names)}")
    return prepared if config.transfers else None


def prepare(config: TrainConfig, data: Dataset, module: nn.Module | None, start: Start | None) -> Prepared:
    """The network as the run begins: built from its seed or the caller's, given what fits, grown, frozen and adapted as it is set.

    Args:
        config: the run's settings.
        data: read as `start` reads it.
        module: the caller's, which stays as it is.
        start: the model to begin with.

    Raises:
        UsageError: nothing fits, or what is to be frozen, grown or adapted is not there.
    """
    shape = network_shape(data)
    with seeding():
        torch.manual_seed(config.seed)
        if module is None:
            built = build_module(config.model, *shape)
        else:
            built = deepcopy(module)
            check_module(built, *shape)
        names = tuple(name for name, _ in built.named_parameters())
        found = Copied(copied=() if module is None else names, fresh=names if module is None else ())
        if start is not None and config.grow:
            _grow(config, built, start)
            found = Copied(copied=names, fresh=())
        elif start is not None:
            found = copy_fitting(built, start.tensors, start.name)
        adapters = add_adapters(built, config.adapter, found.fresh) if config.adapter else []
        if config.freeze:
            freeze(built, config.freeze)
    trainable = sum(parameter.numel() for parameter in built.parameters() if parameter.requires_grad)
    event = StartedFrom(
        source=config.start_from,
        copied=list(found.copied) if start is not None else [],
        fresh=list(found.fresh),
        adapters=adapters,
        trainable_parameters=trainable,
        frozen_parameters=sum(parameter.numel() for parameter in built.parameters()) - trainable,
    )
    return Prepared(module=built, started=event)


def _grow(config: TrainConfig, built: nn.Module, start: Start) -> None:
    if start.config.name != config.model.name or start.config.name == CUSTOM:
        raise UsageError(f"grow=True needs a model of one family: {start.name} is {start.config.name!r}, and model={config.model.name!r}")
    before = start.encoder
    small = build_module(start.config, before.num_numbers, before.cardinalities, task_of(before).num_outputs(before.classes))
    small.load_state_dict(dict(start.tensors), strict=False)
    generator = torch.Generator().manual_seed(config.seed)
    FAMILIES.load(config.model.name).grow(small, built, generator)
