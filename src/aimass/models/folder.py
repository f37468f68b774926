"""A saved model's folder, read and written.

model.json          format version, family and its settings, encoder, task, signature, manifest
model.safetensors   every tensor of the network, by name
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aimass.core.errors import DataError, NotFound, UsageError
from aimass.core.files import whole_folder, write_json, write_tensors
from aimass.models.config import parse_model
from aimass.models.tasks import task_of

if TYPE_CHECKING:
    from aimass.data.encoder import Encoder
    from aimass.models.family import FamilyConfig
    from aimass.models.tasks import Task

FORMAT = 1
DESCRIPTION, TENSORS = "model.json", "model.safetensors"


def write_model(path: Path, description: Mapping[str, Any], module: nn.Module) -> Path:
    """Write a model as a folder, whole or not at all. One that is there is replaced.

    Args:
        path: the folder.
        description: what `model.json` says besides the format.
        module: whose tensors are kept.

    Raises:
        UsageError: `path` is a file, or a folder that holds something other than a model.
        StorageError: it cannot be written.
    """
    there = path.resolve()  # `new/../rows.csv` is there, although `new` is not yet
    if there.exists() and not (there / DESCRIPTION).is_file() and (not there.is_dir() or any(there.iterdir())):
        raise UsageError(f"{path} is there already and is no model; choose another folder")
    with whole_folder(path) as unfinished:
        write_json(unfinished / DESCRIPTION, {"format": FORMAT, **description})
        write_tensors(unfinished / TENSORS, _each_once(module))
    return path


def read_parts(folder: str | Path) -> tuple[FamilyConfig, Encoder, dict[str, Tensor]]:
    """What `Model.save` wrote, without building a network of it: the settings, the encoder, and every tensor by name.

    Raises:
        NotFound: there is no model.
        DataError: a file of the model is damaged, or newer than this release.
    """
    path = Path(folder).expanduser()
    return *read_facts(path)[:2], _read_tensors(path / TENSORS)


def copy_model(source: Path, folder: Path) -> None:
    """Copy what `Model.save` wrote, and nothing else that lies beside it. The copy is there whole, or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    with whole_folder(folder) as unfinished:
        for name in (DESCRIPTION, TENSORS):
            shutil.copyfile(source / name, unfinished / name)


def _each_once(module: nn.Module) -> dict[str, Tensor]:
    """The network's tensors by name; tied ones under their first name alone, since safetensors holds no memory twice."""
    kept: dict[str, Tensor] = {}
    seen: set[tuple[int, int]] = set()
    for name, tensor in module.state_dict().items():
        key = (tensor.data_ptr(), tensor.numel())
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        kept[name] = tensor.detach().contiguous().clone()
    return kept


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{path} is no model: it has no {DESCRIPTION}; give the folder that Model.save wrote") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path / DESCRIPTION} cannot be read ({error}); save the model again") from error
    if not isinstance(description, dict) or not isinstance(description.get("format"), int):
        raise DataError(f"{path / DESCRIPTION} does not describe a model; save the model again")
    if description["format"] > FORMAT:
        raise DataError(f"{path} was saved by a newer release (format {description['format']}, and this one reads {FORMAT}); update aimass")
    return description


def read_facts(path: Path) -> tuple[FamilyConfig, Encoder, Task]:
    """The settings, the encoder and the task of a saved model.

    Raises:
        NotFound: there is no model.
        DataError: its description is damaged, or newer than this release.
    """
    description = _read_description(path)
    try:
        from aimass.data.encoder import Encoder

        config, encoder = parse_model(description["config"]), Encoder.from_json(description["encoder"])
        task = task_of(encoder, description.get("loss"))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path / DESCRIPTION} is damaged ({error}); save the model again") from error
    return config, encoder, task


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is damaged or missing ({error}); save the model again") from error
    return tensors


def fill(module: nn.Module, folder: Path, advice: str) -> None:
    """Write a saved model's tensors over those of a network.

    Raises:
        UsageError: the network has other tensors; `advice` says what to do.
        DataError: the file is damaged or missing.
    """
    path = folder / TENSORS
    tensors = _read_tensors(path)
    own = _each_once(module)
    if own.keys() != tensors.keys():
        odd = min(own.keys() ^ tensors.keys())
        where = "the file" if odd in tensors else "the network"
        raise UsageError(f"the network and {path} do not have the same tensors: {odd!r} is in {where} alone; {advice}")
    state = module.state_dict()
    for name, tensor in tensors.items():
        if state[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)} in {path} and {tuple(state[name].shape)} in the network"
            raise UsageError(f"{name!r} has shape {shapes}; {advice}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
