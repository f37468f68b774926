"""Files and folders that are there whole, or not at all."""

from __future__ import annotations

import ctypes
import json
import os
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
_PART_BYTES, _MOST_PIECES = 64 << 20, 1024  # of one write; IOV_MAX
_TYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}


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


def write_whole(path: Path, content: bytes | str, *, private: bool = False) -> None:
    """Write a file that holds all of `content`, or leave what was there.

    Args:
        path: where.
        content: what it shall hold.
        private: let nobody but the owner read it.

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
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666), "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            _flush(path.parent)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """Write `value` as indented JSON, whole or not at all. Non-finite numbers are refused: JSON has none."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", private=private)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, cached: bool = True) -> None:
    """Write named tensors as safetensors, straight from their memory, with the operating system's own errors where it fails.

    The file is the length of a JSON header, the header, and the tensors' bytes without gaps.

    Args:
        path: the file.
        tensors: on any device; those that are not contiguous or not on the CPU are copied.
        cached: whether the file is likely to be read soon. Otherwise it is on the disk when this returns, and took hardly any of
            the page cache: filling fresh pages costs more than all the rest.

    Source: https://github.com/huggingface/safetensors#format
    """
    header: dict[str, Any] = {}
    pieces = [memoryview(b"")]
    at = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):  # so that each is aligned
        header[name] = {"dtype": _type_name(tensor), "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        pieces.append(_bytes_of(tensor))
        at += tensor.nbytes
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    pieces[0] = memoryview(len(head).to_bytes(8, "little") + head)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        os.fchmod(file, path.parent.stat().st_mode & 0o666)  # whoever may read the folder may read it
        for part in _parts(pieces):
            _write_all(file, part)
            if not cached:
                os.fsync(file)
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def _type_name(tensor: Tensor) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in _TYPES:
        raise ValueError(f"a tensor of {name} cannot be written; there are: {', '.join(_TYPES)}")
    return _TYPES[name]


def _bytes_of(tensor: Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _parts(pieces: list[memoryview]) -> Iterator[list[memoryview]]:
    """The same bytes in calls that the system takes: so many pieces, and so many bytes, at once."""
    part: list[memoryview] = []
    room = _PART_BYTES
    for piece in pieces:
        rest = piece
        while len(rest):
            part.append(rest[:room])
            room -= len(part[-1])
            rest = rest[len(part[-1]) :]
            if not room or len(part) == _MOST_PIECES:
                yield part
                part, room = [], _PART_BYTES
    if part:
        yield part


def _write_all(file: int, part: list[memoryview]) -> None:
    while part:
        written = os.writev(file, part)
        while part and written >= len(part[0]):
            written -= len(part.pop(0))
        if part:
            part[0] = part[0][written:]


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
