"""Checkpoints: named tensors and a little JSON, in a folder that is there whole or not at all.

checkpoints/step-000000123/parameters.safetensors   p, by the module's names
                           optimizer.safetensors    each state, as state/name
                           buffers.safetensors      the module's buffers, float ones as one vector
                           state.json               clock, leases, history; which one is best
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.core.errors import NotFound, TrainingError, storage_errors
from aimass.core.files import remove_folder, sweep_unfinished, whole_folder, write_json, write_tensors
from aimass.parameters.base import Snapshot

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.models.manifest import Manifest

_BEST = "best"
_VERSION = 1


@dataclass(kw_only=True)
class Checkpoint:
    """The whole state of a run at one step.

    Args:
        snapshot: the parameter server's.
        floats: the module's floating-point buffers, averaged over workers. Shape (num_buffers,).
        integers: its other buffers, by name.
        state: the trainer's own: history, totals, the lease plan. JSON values.
        random: torch's random states, by device, where the run trains in one process.
    """

    snapshot: Snapshot
    floats: Tensor
    integers: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    random: dict[str, Tensor] = field(default_factory=dict)


@dataclass(kw_only=True)
class Best:
    """The model of the best epoch so far.

    Args:
        parameters: p. Shape (num_parameters,).
        floats: the floating-point buffers. Shape (num_buffers,).
        integers: the other buffers, by name.
        epoch: what `EpochEnded` said of it.
    """

    parameters: Tensor
    floats: Tensor
    integers: dict[str, Tensor]
    epoch: dict[str, Any]


class Checkpoints:
    """A run's checkpoints: the last few, and the best one.

    Args:
        folder: where they lie.
        keep: how many of the last ones stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        if folder.exists():
            sweep_unfinished(folder)

    def names(self) -> list[str]:
        """Every whole checkpoint, the oldest first."""
        return sorted(path.name for path in self.folder.glob("step-*")) if self.folder.exists() else []

    def write(self, checkpoint: Checkpoint, manifest: Manifest) -> str:
        """Write one, and remove those that need not stay.

        Raises:
            StorageError: the disk is full or broken; what was there stays.
        """
        snapshot = checkpoint.snapshot
        name = _name_of(snapshot.clock)
        with whole_folder(self.folder / name) as folder:
            tensors = [
                ("parameters", manifest.views(snapshot.parameters)),
                ("optimizer", {f"{state}/{at}": t for state, flat in snapshot.states.items() for at, t in manifest.views(flat).items()}),
                ("buffers", {"floats": checkpoint.floats, **{f"integers/{at}": t for at, t in checkpoint.integers.items()}}),
            ]
            if checkpoint.random:
                tensors.append(("random", checkpoint.random))
            for stem, named in tensors:
                write_tensors(folder / f"{stem}.safetensors", named, cached=False)
            server = {"clock": snapshot.clock, "cells": snapshot.cells, "next_lease": snapshot.next_lease}
            write_json(folder / "state.json", {"v": _VERSION, "server": server, "trainer": checkpoint.state})
        for old in self.names()[: -self.keep]:
            if old != name:  # it may be older than one that could not be read
                with storage_errors(self.folder / old):
                    remove_folder(self.folder / old)
        return name

    def write_best(self, best: Best, manifest: Manifest) -> None:
        """Write the best epoch in place of the one before.

        Raises:
            StorageError: the disk is full or broken; the one before stays.
        """
        with whole_folder(self.folder / _BEST) as folder:
            write_tensors(folder / "parameters.safetensors", manifest.views(best.parameters), cached=False)
            buffers = {"floats": best.floats, **{f"integers/{at}": t for at, t in best.integers.items()}}
            write_tensors(folder / "buffers.safetensors", buffers, cached=False)
            write_json(folder / "state.json", {"v": _VERSION, "epoch": best.epoch})

    def read_best(self, manifest: Manifest) -> Best | None:
        """The best epoch, or None where none was written.

        Raises:
            TrainingError: it is not whole, or belongs to another model.
        """
        folder = self.folder / _BEST
        if not folder.exists():
            return None
        with _reading(folder):
            epoch = json.loads((folder / "state.json").read_text(encoding="utf-8"))["epoch"]
            parameters = _flatten(_load(folder, "parameters"), manifest)
            floats, integers = _buffers(_load(folder, "buffers"))
            return Best(parameters=parameters, floats=floats, integers=integers, epoch=epoch)

    def read(self, name: str, manifest: Manifest) -> Checkpoint:
        """Read one back.

        Raises:
            TrainingError: it is not whole, or belongs to another model.
        """
        folder = self.folder / name
        with _reading(folder):
            raw = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            optimizer = _load(folder, "optimizer")
            random = _load(folder, "random") if (folder / "random.safetensors").exists() else {}
            states = sorted({name.split("/", 1)[0] for name in optimizer})
            snapshot = Snapshot(
                parameters=_flatten(_load(folder, "parameters"), manifest),
                states={s: _flatten({e.name: optimizer[f"{s}/{e.name}"] for e in manifest.entries}, manifest) for s in states},
                **raw["server"],
            )
            floats, integers = _buffers(_load(folder, "buffers"))
            return Checkpoint(snapshot=snapshot, floats=floats, integers=integers, state=raw["trainer"], random=random)

    def remove_after(self, step: int) -> None:
        """Remove those of later steps.

        Raises:
            StorageError: one cannot be removed.
        """
        for name in self.names():
            if name > _name_of(step):
                with storage_errors(self.folder / name):
                    remove_folder(self.folder / name)

    def read_newest(self, manifest: Manifest, below: int | None = None) -> tuple[Checkpoint, list[tuple[str, str]]]:
        """The newest that can be read, and those that could not, with why.

        Args:
            manifest: of the model that they are to belong to.
            below: a step: only those before it are looked at.

        Raises:
            NotFound: there is none.
        """
        unreadable: list[tuple[str, str]] = []
        for name in reversed(self.names()):
            if below is not None and name >= _name_of(below):
                continue
            try:
                return self.read(name, manifest), unreadable
            except TrainingError as error:
                unreadable.append((name, str(error)))
        raise NotFound(f"there is no checkpoint to go on from in {self.folder}; start the training again")


def _name_of(step: int) -> str:
    return f"step-{step:012d}"


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise TrainingError(f"the checkpoint {folder} cannot be read ({error}); remove it and resume from an older one") from error


def _load(folder: Path, stem: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(folder / f"{stem}.safetensors")
    return tensors


def _buffers(tensors: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    return tensors["floats"], {at.removeprefix("integers/"): t for at, t in tensors.items() if at.startswith("integers/")}


def _flatten(tensors: dict[str, Tensor], manifest: Manifest) -> Tensor:
    import torch

    flat = torch.empty(manifest.num_parameters)
    for name, view in manifest.views(flat).items():
        if tensors[name].shape != view.shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, and the model has {tuple(view.shape)}")
        view.copy_(tensors[name])
    return flat
