"""Files and folders that are there whole, or not at all."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aimass.core.errors import storage_errors

if TYPE_CHECKING:
    from torch import Tensor

_UNFINISHED = ".unfinished-"
_HERE, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD, and the flag of renameat2


def home() -> Path:
    """Where state lives: `AIMASS_HOME`, or `~/.aimass`."""
    return Path(os.environ.get("AIMASS_HOME") or Path.home() / ".aimass").expanduser()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder that appears under `path` only when it is complete and on disk; an older one is replaced.

    Yields:
        a temporary folder beside `path`, to be filled. An error inside removes it and leaves `path` as it was.

    Raises:
        StorageError: the disk is full, read-only or broken.
    """
    unfinished = path.parent / f"{_UNFINISHED}{path.name}-{uuid4().hex[:8]}"
    with storage_errors(path):
        try:
            unfinished.mkdir(parents=True)
            yield unfinished
            for file in unfinished.rglob("*"):
                _flush(file)
            _flush(unfinished)
            _put_in_place(unfinished, path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def _put_in_place(unfinished: Path, path: Path) -> None:
    if not path.exists():
        os.rename(unfinished, path)
    else:
        _exchange(unfinished, path)
        shutil.rmtree(unfinished, ignore_errors=True)
    _flush(path.parent)


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step, so that a kill leaves one or the other; in two where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None and renameat2(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _RENAME_EXCHANGE) == 0:
        return
    aside = old.parent / f"{_UNFINISHED}{old.name}-{uuid4().hex[:8]}"
    os.rename(old, aside)
    os.rename(new, old)
    os.rename(aside, new)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file that holds all of `content`, or leave what was there.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_whole(target, "whole")
    >>> target.read_text()
    'whole'
    """
    unfinished = path.parent / f"{_UNFINISHED}{path.name}-{uuid4().hex[:8]}"
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            _flush(path.parent)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. Non-finite numbers are refused: JSON has none."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors, with the operating system's own errors where it fails."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        told = re.search(r"os error (\d+)", str(error))
        if told is None:
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1])), str(path)) from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # the library lets only the owner read; the folder follows the umask


def remove_folder(path: Path) -> None:
    """Remove a folder so that no reader ever sees half of it."""
    hidden = path.parent / f"{_UNFINISHED}{path.name}-{uuid4().hex[:8]}"
    os.rename(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def sweep_unfinished(folder: Path) -> None:
    """Remove what a killed process left half-written in `folder`."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
