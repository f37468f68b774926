"""Whether a folder holds a saved model, told from its files without loading it: `model.json` and the head of `model.safetensors`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aimass.core.errors import DataError, NotFound, TooLarge

DESCRIPTION, TENSORS = "model.json", "model.safetensors"
NEWEST_FORMAT = 1
_DESCRIPTION_BYTES = 64 << 20
_FILES = 1000


def read_signature(folder: Path) -> dict[str, Any]:
    """What goes into a saved model and what comes out, once its files are seen to be a model's.

    Args:
        folder: what `Model.save` wrote.

    Raises:
        NotFound: it is no model's folder.
        DataError: a file of it is damaged, or newer than this release.
    """
    for path in (folder / DESCRIPTION, folder / TENSORS):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise _odd(path)
    description = _read_description(folder)
    signature = description.get("signature")
    if not isinstance(signature, dict) or not _is_signature(signature):
        raise DataError(f"{folder / DESCRIPTION} has no signature with inputs, target and task; save the model again")
    held = _tensor_names(folder / TENSORS)
    if not held:
        raise DataError(f"{folder / TENSORS} holds no tensor; save the model again")
    return signature


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a saved model, by their path in the folder.

    Raises:
        DataError: something in it is no plain file.
        TooLarge: there are more files than a model has.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _odd(path)
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path
        if len(found) > _FILES:
            raise TooLarge(f"{folder} holds more than {_FILES} files; give the folder that Model.save wrote")
    return found


def _odd(path: Path) -> DataError:
    return DataError(f"{path} is a link or no plain file; a model's folder holds plain files alone")


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        if path.stat().st_size > _DESCRIPTION_BYTES:
            raise TooLarge(f"{path} is larger than {_DESCRIPTION_BYTES >> 20} MB, and no model's description is; save the model again")
        description = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{folder} is no model: it has no {DESCRIPTION}; give the folder that Model.save wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); save the model again") from error
    version = description.get("format") if isinstance(description, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise DataError(f"{path} does not describe a model; save the model again")
    if version > NEWEST_FORMAT:
        raise DataError(
            f"{folder} was saved by a newer release (format {version}, and this one reads {NEWEST_FORMAT}); update aimass on the server"
        )
    result: dict[str, Any] = description
    return result


def _is_signature(signature: dict[str, Any]) -> bool:
    inputs = signature.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(signature.get(name), str) for name in ("target", "task")):
        return False
    return all(isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("kind"), str) for one in inputs)


def _tensor_names(path: Path) -> list[str]:
    """What the head of the file lists. The library sees that it fits the file's size, and reads no tensor."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            return list(tensors.keys())
    except FileNotFoundError:
        raise NotFound(f"{path.parent} is no model: it has no {TENSORS}; give the folder that Model.save wrote") from None
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is damaged ({error}); save the model again") from error
