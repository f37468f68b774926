"""What a run is asked to do: settings as people write them, made to suit the data, and refused before a process starts."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from aimass.core.config import nest
from aimass.core.errors import DataError, UsageError, unknown_name
from aimass.data.text import with_context
from aimass.models.config import CUSTOM, is_module
from aimass.models.family import FAMILIES
from aimass.models.losses import LOSSES, loss_for
from aimass.training.config import SHORTHANDS, TrainConfig
from aimass.training.health.config import REVEALED
from aimass.training.stopping import check_target
from aimass.training.workers.elastic import read_workers

if TYPE_CHECKING:
    from torch import nn

    from aimass.data.dataset import Dataset

FIXED = ("model", "batch_size", "loss", "seed", "start_from", "grow", "freeze", "adapter")
"""The settings that a run keeps when it goes on."""


def settle(settings: Mapping[str, Any]) -> tuple[TrainConfig, nn.Module | None]:
    """Read settings as people write them: names in full, dotted, or for short.

    >>> config, _ = settle({"workers": 2, "epochs": 3, "optimizer": "sgd", "optimizer.lr": 0.5})
    >>> config.strategy.name, config.stop.epochs, config.optimizer.lr
    ('async_sgd', 3, 0.5)
    """
    for name in settings:
        if "." not in name and name not in SHORTHANDS and name not in TrainConfig.model_fields:
            raise unknown_name("setting", name, [*TrainConfig.model_fields, *SHORTHANDS])
    module = settings.get("model")
    plain = {SHORTHANDS.get(name, name): value if is_module(value) else deepcopy(value) for name, value in settings.items()}
    return TrainConfig.parse(nest(plain)), module if is_module(module) else None


def changed(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """The settings of a run that goes on with some of them changed.

    Raises:
        UsageError: a setting is unknown, out of range, or one that a run keeps from its start to its end.

    >>> config, _ = settle({"epochs": 3})
    >>> changed(config, {"epochs": 5}).stop.epochs
    5
    """
    fixed = [name for name in changes if name.split(".")[0] in FIXED]
    if fixed:
        raise UsageError(f"{fixed[0]} cannot change in a run that goes on; start a new one")
    tree = config.model_dump(mode="json", context=REVEALED)
    for name, value in nest({SHORTHANDS.get(name, name): deepcopy(value) for name, value in changes.items()}).items():
        known = tree.get(name)
        tree[name] = value
        if isinstance(known, dict) and isinstance(value, dict) and value.get("name") in (None, known.get("name")):
            tree[name] = {**known, **value}  # by another name, such as a strategy's, it takes none of the known settings
    if "workers" in changes:
        seats, least = read_workers(changes["workers"])
        tree["least_workers"] = changes.get("least_workers", least)
        turns = (config.workers > 0) != (isinstance(seats, int) and seats > 0)
        by_default = config.strategy.name == ("async_sgd" if config.workers else "single")
        if turns and by_default and not any(name.split(".")[0] == "strategy" for name in changes):
            tree["strategy"] = None
    return TrainConfig.parse(tree)


def fit_model(config: TrainConfig, data: Dataset) -> tuple[TrainConfig, Dataset]:
    """The settings and the data made to suit each other: a cnn learns the size of the images, and text is cut as a transformer sees it.

    Raises:
        UsageError: the model or the loss is for other data.
        DataError: the text is too short.
    """
    if loss_for(data.task, config.loss) == LOSSES[data.task][0]:
        config = config.model_copy(update={"loss": None})
    model = config.strategy.model_for(config.model)
    if model.name == CUSTOM:
        return config, data
    model = FAMILIES.load(model.name).settle(model, data.encoder)
    if data.encoder.context:
        data = with_context(data, model.context)
    return config.model_copy(update={"model": model}), data


def check_data(config: TrainConfig, data: Dataset) -> None:
    """Refuse, before a process starts, what cannot work on this data."""
    check_target(config.stop, data.task)
    if config.stop.target is not None and not len(data.validation):
        condition = config.stop.target_condition
        if condition is not None and condition[0] != "train_loss":
            raise UsageError(
                f"stop.target={config.stop.target!r} needs validation rows, and the split has none; load with split=(0.8, 0.1, 0.1) "
                "(on the command line --split 0.8,0.1,0.1)"
            )
    if not len(data.train):
        raise DataError(
            "the training split is empty; give it a share of the rows, such as split=(0.8, 0.1, 0.1) "
            "(on the command line --split 0.8,0.1,0.1)"
        )


def check_layers(config: TrainConfig, data: Dataset, module: nn.Module | None) -> None:
    """Refuse, before a process starts, a model that has too few layers for workers that each need some."""
    if config.strategy.plane != "layers":
        return
    from aimass.training.slices.division import check_slices

    check_slices(config, data, module)


def check_devices(config: TrainConfig) -> None:
    """Refuse, before a process starts, GPUs that are not here. Only those who ask for some wait for torch to be imported."""
    if config.device.startswith("cuda") or getattr(config.strategy, "backend", None) == "nccl":
        from aimass.training import planes

        planes.check_devices(config)
