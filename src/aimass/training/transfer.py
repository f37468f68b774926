"""A run that goes out from a model that was trained before: its data is read alike, its network begins with what fits.

The model is copied into the run's folder, `start/`, so that the run can be resumed whatever becomes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aimass.core.errors import NotFound, UsageError
from aimass.core.patterns import fits
from aimass.data.schema import listed
from aimass.models.config import CUSTOM, build_module
from aimass.models.custom import check_module
from aimass.models.family import FAMILIES
from aimass.models.folder import copy_model, read_facts
from aimass.models.model import Model
from aimass.models.tasks import task_of
from aimass.models.transfer.lora import add_adapters
from aimass.models.transfer.start import MOST_NAMES, Copied, Start, answers_alike, copy_fitting, freeze, output_parameters, read_alike
from aimass.training.events import StartedFrom
from aimass.training.opening import network_shape, seeding
from aimass.training.run import Run
from aimass.training.starting import taken_family, takes_family

if TYPE_CHECKING:
    from torch import nn

    from aimass.data.dataset import Dataset
    from aimass.data.encoder import Encoder
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


def with_model_of(settings: Mapping[str, Any], found: tuple[str, Path | Model]) -> dict[str, Any]:
    """Settings of a run, with the family and the sizes of the model that it begins with, where they name none of their own.

    Args:
        settings: as people write them.
        found: what `find_start` gave.

    Raises:
        UsageError: the model is a module of the caller's, which nobody can build here.
    """
    name, model = found
    if not takes_family(settings):
        return {**settings, "start_from": name}
    config = model.config if isinstance(model, Model) else read_facts(model)[0]
    return {**settings, "start_from": name, "model": taken_family(config, name)}


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
            raise UsageError(f"optimizer.rates={pattern!r} fits no parameter that learns; there are: {listed(names, MOST_NAMES)}")
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
        warning = None
        found = Copied(copied=() if module is None else names, fresh=names if module is None else ())
        if start is not None and config.grow:
            _grow(config, data, built, start)
            found = Copied(copied=names, fresh=())
        elif start is not None:
            found = _copy(data, built, start)
            if not found.copied:
                raise _nothing_fits(config, data, built, start)
            warning = _little_fits(config, data, _num_copied(built, found), start)
        if config.freeze:
            freeze(built, config.freeze, has_adapters=config.adapter is not None)
        adapters = add_adapters(built, config.adapter, found.fresh) if config.adapter else []
    trainable = sum(parameter.numel() for parameter in built.parameters() if parameter.requires_grad)
    event = StartedFrom(
        source=config.start_from,
        copied=list(found.copied) if start is not None else [],
        fresh=list(found.fresh),
        adapters=adapters,
        trainable_parameters=trainable,
        frozen_parameters=sum(parameter.numel() for parameter in built.parameters()) - trainable,
        warning=warning,
    )
    return Prepared(module=built, started=event)


def _grow(config: TrainConfig, data: Dataset, built: nn.Module, start: Start) -> None:
    if start.config.name != config.model.name or start.config.name == CUSTOM:
        raise UsageError(f"grow=True needs a model of one family: {start.name} is {start.config.name!r}, and model={config.model.name!r}")
    before = start.encoder
    if not answers_alike(data.encoder, before):
        raise UsageError(
            f"grow=True keeps the answers of {start.name}, which are {_answers_of(before)}, and the data ask for "
            f"{_answers_of(data.encoder)}; leave grow out, and what fits is copied"
        )
    small = build_module(start.config, before.num_numbers, before.cardinalities, task_of(before).num_outputs(before.classes))
    small.load_state_dict(dict(start.tensors), strict=False)
    generator = torch.Generator().manual_seed(config.seed)
    FAMILIES.load(config.model.name).grow(small, built, generator)


def _answers_of(encoder: Encoder) -> str:
    return f"{encoder.target!r}" + (f" ({listed(encoder.classes, MOST_NAMES)})" if encoder.classes else "")


def _nothing_fits(config: TrainConfig, data: Dataset, built: nn.Module, start: Start) -> UsageError:
    """What both have, and what would help: its own sizes, to grow, or nothing."""
    known = listed((f"{name} {tuple(tensor.shape)}" for name, tensor in start.tensors.items()), MOST_NAMES)
    wanted = listed((f"{name} {tuple(parameter.shape)}" for name, parameter in built.named_parameters()), MOST_NAMES)
    if CUSTOM in (start.config.name, config.model.name):
        advice = "a module begins with what has the same names and shapes in another"
    elif config.strategy.model_for(start.config) != start.config:
        advice = f"{config.strategy.name!r} makes another model of it; train by another strategy"
    elif _fits_more(config, data, start, 0):
        grow = ", or set grow=True" if _can_grow(config, data, built, start) else ""
        advice = f"leave model out to have the family {start.config.name!r} and the sizes of {start.name}{grow}"
    else:
        advice = f"{start.name} was trained on other inputs or for other answers, {_answers_of(start.encoder)}; begin without start_from"
    return UsageError(f"nothing of {start.name} fits the model: it has {known}, and the model {wanted}; {advice}")


def _little_fits(config: TrainConfig, data: Dataset, copied: int, start: Start) -> str | None:
    """That most of what was learnt is lost, and what to do, where less than half of the parameters could be copied."""
    whole = sum(tensor.numel() for tensor in start.tensors.values())
    if 2 * copied >= whole:
        return None
    told = f"only {copied:,} of the {whole:,} parameters of {start.name} fit"
    if _fits_more(config, data, start, copied):
        return f"{told}; leave model out to have its family and sizes"
    return f"{told}, since it was trained on other inputs or for other answers"


def _fits_more(config: TrainConfig, data: Dataset, start: Start, copied: int) -> bool:
    """Whether more parameters than these would be copied, had the run the family and the sizes of the model that it begins with."""
    own = start.config
    if CUSTOM in (config.model.name, own.name) or own == config.model or config.strategy.model_for(own) != own:
        return False
    try:
        other = build_module(own, *network_shape(data))
    except UsageError:
        return False
    return _num_copied(other, _copy(data, other, start)) > copied


def _copy(data: Dataset, module: nn.Module, start: Start) -> Copied:
    alike = answers_alike(data.encoder, start.encoder)
    return copy_fitting(module, start.tensors, () if alike else output_parameters(module))


def _num_copied(module: nn.Module, found: Copied) -> int:
    return sum(parameter.numel() for name, parameter in module.named_parameters() if name in found.copied)


def _can_grow(config: TrainConfig, data: Dataset, built: nn.Module, start: Start) -> bool:
    try:
        _grow(config, data, deepcopy(built), start)
    except UsageError:
        return False
    return True
