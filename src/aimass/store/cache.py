"""Folders made from blobs, for programs that read files: an engine, a driver. They can be removed at any time, and are made again.

Each file is a copy of its own, so that damage to the cache never reaches the store. A folder is checked by hash when a process first
asks for it, and after that as long as its files look as they did then.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from aimass.core.errors import UsageError, storage_errors
from aimass.core.files import whole_folder
from aimass.store.blobs import Blob, Blobs

_AT_ONCE = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_Look = tuple[int, int, int, int]  # inode, bytes, changed, written


class Cache:
    """What makes the folders, and remembers which of them it has seen whole."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._seen: dict[Path, dict[str, _Look]] = {}
        self._guard = threading.Lock()

    def folder(self, name: str, files: Mapping[str, Blob], cache: Path) -> Path:
        """The folder `name` below `cache` with these files, whole and undamaged. `Registry.materialise` says the rest."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name[:80]!r} cannot name a folder of the cache; use letters, digits, '-' and '_'")
        folder = cache / name
        if self._is_as_seen(folder, files):
            return folder
        with _turn(cache, name):
            if not self._is_as_seen(folder, files) and not _is_whole(folder, files):
                self._make(folder, files)
            with self._guard:
                self._seen[folder] = {path: _look(folder / path) for path in files}
        return folder

    def _is_as_seen(self, folder: Path, files: Mapping[str, Blob]) -> bool:
        with self._guard:
            seen = self._seen.get(folder)
        try:
            return seen is not None and all(seen[path] == _look(folder / path) for path in files)
        except (OSError, KeyError):
            return False

    def _make(self, folder: Path, files: Mapping[str, Blob]) -> None:
        for left in folder.parent.glob(f".unfinished-{folder.name}-*"):  # of a process that was killed here: this one has its turn
            shutil.rmtree(left, ignore_errors=True)
        with whole_folder(folder) as unfinished:
            for path, blob in files.items():
                self._copy(blob, unfinished / path)

    def _copy(self, blob: Blob, path: Path) -> None:
        found = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._blobs.open(blob.sha256) as source, path.open("wb") as target:
            while chunk := source.read(_AT_ONCE):
                found.update(chunk)
                target.write(chunk)
        if found.hexdigest() != blob.sha256:
            raise self._blobs.damaged(blob.sha256)


@contextmanager
def _turn(cache: Path, name: str) -> Iterator[None]:
    """One at a time, of all threads and processes, for one folder."""
    path = cache / ".locks" / name
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        flock(descriptor, LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _look(path: Path) -> _Look:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_ctime_ns, found.st_mtime_ns


def _is_whole(folder: Path, files: Mapping[str, Blob]) -> bool:
    try:
        for path, blob in files.items():
            with (folder / path).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != blob.sha256:
                    return False
        return True
    except OSError:
        return False
