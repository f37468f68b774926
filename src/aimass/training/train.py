"""`aimass.train`: one line from data to a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.core.errors import DataError, UsageError
from aimass.models.config import CUSTOM, is_module
from aimass.training.record import RUNNING
from aimass.training.run import Run
from aimass.training.settling import changed, check_data, check_devices, check_layers, fit_model, settle

if TYPE_CHECKING:
    from torch import nn

    from aimass.data.dataset import Dataset
    from aimass.training.config import TrainConfig
    from aimass.training.transfer import Prepared


def train(data: Any, target: str | None = None, *, progress: bool = False, home: str | Path | None = None, **settings: Any) -> Run:
    """Start training, and return the run at once.

    Args:
        data: what `aimass.data.load` gave, or anything that it takes.
        target: the column to predict, where `data` is not loaded yet.
        progress: show how it goes, and wait for the end as `Run.wait` does.
        home: where the run's folder goes; by default `AIMASS_HOME`, or `~/.aimass`.
        settings: the fields of `TrainConfig`, such as `model="mlp"`, `strategy="async_sgd"`, `workers=2`, `optimizer="adam"`,
            and for short `epochs`, `max_steps`, `tolerance`, `patience`, `budget` (all of `stop`) and `lr` (of `optimizer`).

    Raises:
        UsageError: a setting is unknown or out of range, or asks for a GPU that is not here.
        DataError, NotFound: the data cannot be read or trained on.

    >>> import tempfile
    >>> run = train("iris", epochs=2, home=tempfile.mkdtemp()).wait()
    >>> run.metrics()["reason"], run.metrics()["steps"]
    ('epochs', 8)
    """
    place = None if home is None else Path(home)
    start = _find_start(settings.get("start_from"), place)
    config, module = settle(_with_model_of(settings, start))
    check_devices(config)
    if config.workers:
        _warm_up(config)
    dataset = load_data(data, target)
    config, dataset = fit_model(config, dataset)
    check_data(config, dataset)
    check_layers(config, dataset, module)
    prepared = None
    if config.transfers or config.optimizer.rates:
        dataset, prepared = _check_transfer(config, dataset, module, start)
    run = Run.create(config, dataset, module, place)
    if start:
        _keep_start(start, run)
    run.start(prepared=prepared)
    return _watch(run) if progress else run


def resume(
    name: str | Path,
    *,
    data: Any = None,
    model: nn.Module | None = None,
    progress: bool = False,
    home: str | Path | None = None,
    **changes: Any,
) -> Run:
    """Go on with a run that was cancelled, failed or was killed, from its newest checkpoint that is whole.

    Args:
        name: the run's id, the beginning of it, or its folder.
        data: the data, where the run was not started from a file or a sample.
        model: the module, where the run trains a custom one.
        progress, home: as for `train`.
        changes: settings to change, such as `epochs=20`; the model, the batch size, the loss and the seed stay.

    Raises:
        NotFound: there is no such run, or no checkpoint in it.
        DataError: the data is not what the run was started on.
    """
    run = Run.open(name, None if home is None else Path(home))
    if run.state == RUNNING:
        raise UsageError(f"{run.id} is still running; stop it first")
    if model is not None and not is_module(model):
        raise UsageError("model cannot change in a run that goes on; start a new one")
    config = changed(run.config, changes)
    if config.strategy.model_for(config.model) != config.model:
        raise UsageError(f"{config.strategy.name!r} makes another model of {config.model.name!r}, and a run keeps its own; start a new one")
    if config.model.name == CUSTOM and model is None:
        raise UsageError(f"{run.id} trains a module of yours; resume it from Python: aimass.resume({run.id!r}, model=MyModule())")
    check_devices(config)
    if config.workers:
        _warm_up(config)
    config, dataset, prepared = _settle_again(run, config, _load_again(run, data), model)
    run.go_on(config, dataset, model, prepared)
    return _watch(run) if progress else run


def begin_again(run: Run, config: TrainConfig, data: Dataset, start: Any = None) -> None:
    """Let a run that was killed before its first checkpoint begin from its first batch.

    Args:
        run: of a family that comes with aimass.
        config: its settings, as they are asked for by now.
        data: as it was loaded.
        start: the model to begin with, as `start_from` of `train` takes it: the run may have been killed before it had a copy.

    Raises:
        UsageError, DataError: it cannot be trained so.
    """
    found = _find_start(start, None)
    if found is not None:
        _keep_start(found, run)
    check_devices(config)
    if config.workers:
        _warm_up(config)
    config, data, prepared = _settle_again(run, config, data, None)
    run.go_on(config, data, None, prepared, from_checkpoint=False)


def _settle_again(run: Run, config: TrainConfig, data: Dataset, module: nn.Module | None) -> tuple[TrainConfig, Dataset, Prepared | None]:
    """The settings and the data of a run that was there before, made to suit each other, and seen to work; the network, if it was made."""
    config, data = fit_model(config, data)
    check_data(config, data)
    check_layers(config, data, module)
    if config.start_from is not None:
        from aimass.training.transfer import adopt

        data = adopt(config, data, run.folder)
    prepared = None
    if config.optimizer.rates:
        from aimass.training.transfer import read_start, rehearse_with

        prepared = rehearse_with(config, data, module, read_start(config, run.folder))
    return config, data, prepared


def _find_start(value: Any, home: Path | None) -> tuple[str, Any] | None:
    if value is None:
        return None
    from aimass.training.transfer import find_start

    return find_start(value, home)


def _with_model_of(settings: Mapping[str, Any], start: tuple[str, Any] | None) -> Mapping[str, Any]:
    if start is None:
        return settings
    from aimass.training.transfer import with_model_of

    return with_model_of(settings, start)


def with_family(settings: Mapping[str, Any], home: Path | None = None) -> Mapping[str, Any]:
    """Settings with the family of the model that the run is to begin with, where they name none.

    Raises:
        NotFound, UsageError: there is no such model, or no settings build it.
    """
    start = _find_start(settings.get("start_from"), home)
    return settings if start is None else {**_with_model_of(settings, start), "start_from": settings["start_from"]}


def _check_transfer(
    config: TrainConfig, data: Dataset, module: nn.Module | None, start: tuple[str, Any] | None
) -> tuple[Dataset, Prepared | None]:
    """Refuse, before a process starts, what cannot begin from another model; and read the data as that model does."""
    from aimass.training.transfer import rehearse

    return rehearse(config, data, module, start)


def _keep_start(start: tuple[str, Any], run: Run) -> None:
    from aimass.training.transfer import keep_start

    keep_start(start[1], run.folder)


def load_data(data: Any, target: str | None) -> Dataset:
    """A data set as it is, or loaded from whatever `aimass.data.load` takes."""
    from aimass.data import load
    from aimass.data.dataset import Dataset

    if not isinstance(data, Dataset):
        return load(data, target)
    if target is not None and target != data.target:
        raise UsageError(
            f"target={target!r} names a column, and the data was loaded with {data.target!r}; load it again with the other target. "
            "A metric to stop at is stop={'target': 'accuracy>=0.97'}"
        )
    return data


def _load_again(run: Run, data: Any) -> Dataset:
    from aimass.data import load
    from aimass.data.dataset import Dataset

    known = run.source
    if isinstance(data, Dataset):
        dataset = data
    elif known["origin"] is None:
        raise UsageError(f"{run.id} was trained on data from memory; resume it from Python: aimass.resume({run.id!r}, data=...)")
    else:
        origin = dict(known["origin"])
        source = origin.pop("source") if data is None else data
        origin.pop("source", None)
        dataset = load(source, **origin)
    if dataset.fingerprint != known["fingerprint"]:
        raise DataError(f"{dataset.name} has changed since {run.id} was started on it; start a new run, or bring the old data back")
    return dataset


def _watch(run: Run) -> Run:
    """Show how a run goes until it ends; Ctrl-C and failures are those of `Run.wait`."""
    from aimass.training.showing.progress import follow

    try:
        follow(run)
    except KeyboardInterrupt:
        run.stop()
    return run.wait()


def _warm_up(config: TrainConfig) -> None:
    """Let the process that forks workers import torch while this one reads the data."""
    from aimass.cluster.fork_client import warm
    from aimass.training.workers.preload import modules_for

    warm(modules_for(config))
