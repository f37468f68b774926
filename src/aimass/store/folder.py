"""Blobs in a folder: `<first two letters>/<sha256>`, each a file that is never changed.

A file appears under its name by one rename, after its bytes are on disk. What a killed process left unfinished has no name,
and no lock any more: whoever writes holds a lock on its file, so that the sweep knows the living from the dead.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from aimass.core.errors import storage_errors
from aimass.store.upload import Blob

UNFINISHED = ".unfinished-"
_SETTLED_S = 60  # a file that was made a moment ago may not have its lock yet


class FolderPlace:
    """Where blobs lie in a folder. `aimass.store.blobs.Blobs` says what the methods promise."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return str(self.root)

    def unfinished(self) -> Path:
        """A fresh path for bytes that have no name yet, on the disk on which they will stay."""
        return self.root / f"{UNFINISHED}{uuid4().hex}"

    def keep(self, unfinished: Path, blob: Blob) -> None:
        """Give a finished file its name. It takes the place of one that is there, which may be damaged, or due to be swept."""
        path = self.path(blob.sha256)
        with storage_errors(path):
            path.parent.mkdir(exist_ok=True)
            os.chmod(unfinished, 0o444)
            with self._lock(LOCK_SH):
                os.utime(unfinished)
                os.replace(unfinished, path)
            flush_folder(path.parent)
            flush_folder(self.root)

    def size(self, sha256: str) -> int | None:
        """How many bytes a blob has; None where it is not there."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, sha256: str) -> BinaryIO | None:
        """The bytes of a blob; None where it is not there."""
        try:
            return self.path(sha256).open("rb")
        except FileNotFoundError:
            return None

    def copy_to(self, sha256: str, path: Path) -> None:
        """A file with the blob's bytes. On the same disk it is the same file under a second name, and takes no room."""
        try:
            os.link(self.path(sha256), path)
        except OSError:
            shutil.copyfile(self.path(sha256), path)

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is no error."""
        with storage_errors(self.root):
            self.path(sha256).unlink(missing_ok=True)

    def sweep(self, keep: Container[str], older_than_s: float, since: float = 0.0) -> int:
        """Remove what nobody keeps and what dead processes left. See `Blobs.sweep`."""
        removed = 0
        limit = time.time() - older_than_s
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            if path.name in keep or not _is_older(path, limit) or _is_older(path, since):
                continue
            with self._lock(LOCK_EX):  # an upload of the same bytes, just now, makes the file young again
                if _is_older(path, limit):
                    path.unlink(missing_ok=True)
                    removed += 1
        sweep_abandoned(self.root)
        return removed

    def path(self, sha256: str) -> Path:
        """Where a blob lies."""
        return self.root / sha256[:2] / sha256

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)


def sweep_abandoned(folder: Path) -> None:
    """Remove the unfinished files whose writers are gone."""
    for path in folder.glob(f"{UNFINISHED}*"):
        if _is_older(path, time.time() - _SETTLED_S) and _is_abandoned(path):
            path.unlink(missing_ok=True)


def flush_folder(path: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_older(path: Path, limit: float) -> bool:
    try:
        return path.stat().st_mtime < limit
    except FileNotFoundError:
        return False


def _is_abandoned(path: Path) -> bool:
    """Whether the process that wrote an unfinished file is gone: its lock went with it."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
    return False
