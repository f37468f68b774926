"""The model that a job begins with: a version of its project's registry, named `churn`, `churn@3` or `churn@production`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.core.errors import DataError, UsageError
from aimass.models.config import parse_model
from aimass.store.cache import Cache
from aimass.store.names import check_name
from aimass.store.saved import DESCRIPTION, TENSORS
from aimass.training.starting import taken_family

if TYPE_CHECKING:
    from aimass.service.jobs.rooms import Rooms
    from aimass.store.registry import Registry, Version
    from aimass.training.config import TrainConfig

FOLDER = "start"


def pin(rooms: Rooms, project: str, config: TrainConfig, *, takes_family: bool = False) -> TrainConfig:
    """The settings with the number of the version that `start_from` means by now: names and aliases move on, and a job does not.

    Args:
        rooms: where versions are.
        project: whose they are.
        config: the settings.
        takes_family: whether the job has the family and the sizes of the version.

    Raises:
        NotFound: the project has no such model or version.
        UsageError: `start_from` names no version, or one that the model cannot grow from.
        DataError: the version is damaged.
    """
    if config.start_from is None:
        return config
    version = _find(rooms.registry, project, config.start_from)
    name = f"{version.model}@{version.number}"
    if takes_family:
        config = config.model_copy(update={"model": taken_family(parse_model(_settings(rooms, version, name)), name)})
    if config.grow:
        family = _settings(rooms, version, name)["name"]
        if family != config.model.name:
            raise UsageError(
                f"grow=True needs a model of one family: {name} is {family!r}, and model={config.model.name!r}; "
                f"give model={family!r}, or leave grow out"
            )
    return config.model_copy(update={"start_from": name})


def lay(rooms: Rooms, folder: Path, project: str, start_from: str) -> Path:
    """Lay the files of a version into a job's folder, whole and undamaged.

    Raises:
        NotFound: the version's bytes are gone.
        StorageError: they are damaged, or the disk is full.
    """
    version = _find(rooms.registry, project, start_from)
    files = {name: version.files[name] for name in (DESCRIPTION, TENSORS)}
    return Cache(rooms.blobs).folder(FOLDER, files, folder)


def _find(registry: Registry, project: str, start_from: str) -> Version:
    name, at, ref = start_from.partition("@")
    try:
        check_name(name)
    except UsageError:
        at, ref = "@", ""
    if at and not ref:
        raise UsageError(
            f"start_from={start_from[:128]!r} names no version of a model in the registry; give NAME for its newest, NAME@3 or "
            "NAME@ALIAS, and a model that is not there yet to `aimass models upload NAME FOLDER`"
        )
    return registry.version(project, name, None if ref in ("", "newest") else ref)


def _settings(rooms: Rooms, version: Version, name: str) -> dict[str, Any]:
    """The settings of a version's family, as its description has them."""
    with rooms.blobs.open(version.files[DESCRIPTION].sha256) as file:
        try:
            settings = json.load(file)["config"]
            return {**settings, "name": str(settings["name"])}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{name} is damaged: its {DESCRIPTION} names no family ({error}); upload the model again") from error
