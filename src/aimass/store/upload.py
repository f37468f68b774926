"""Bytes on their way into the store: counted and hashed while they are written to a file that has no name there yet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Self

from aimass.core.errors import TooLarge, UsageError, storage_errors

_WORTH, _AHEAD = 2 << 20, 8  # bytes that are hashed at a time by the other thread, and how many such parts may wait for it


@dataclass(frozen=True)
class Blob:
    """What is known of stored bytes: their SHA-256 in hex, which is their name, and how many they are."""

    sha256: str
    size_bytes: int


class Upload:
    """A blob in the making. As a context manager it leaves nothing behind unless it was committed.

    Args:
        path: the file to fill, created here.
        keep: what puts the finished file under the blob's name; it takes the file away.
        limit_bytes: how much is taken in.

    Raises:
        StorageError: the disk is full or refuses.
    """

    def __init__(self, path: Path, keep: Callable[[Path, Blob], None], limit_bytes: int | None = None) -> None:
        self.size_bytes = 0
        self._path, self._keep, self._limit_bytes = path, keep, limit_bytes
        self._hash = _Hash()
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            flock(self._file, LOCK_EX)  # as long as it is held, a sweep leaves the file alone

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            TooLarge: they pass the limit. Nothing is kept.
            StorageError: the disk is full or refuses. Nothing is kept.
        """
        if self._file is None:
            raise UsageError("this upload has ended; start another with receive()")
        self.size_bytes += len(chunk)
        try:
            if self._limit_bytes is not None and self.size_bytes > self._limit_bytes:
                raise TooLarge(f"there are more than {self._limit_bytes:,} bytes, which is the most that is taken in; send less")
            self._hash.update(chunk if isinstance(chunk, bytes) else bytes(chunk))
            with storage_errors(self._path):
                _write_all(self._file, chunk)
        except BaseException:
            self.discard()
            raise

    def commit(self) -> Blob:
        """Put the bytes into the store, on disk, under their hash.

        Raises:
            StorageError: they could not be kept, and are not there.
        """
        if self._file is None:
            raise UsageError("this upload has ended; start another with receive()")
        blob = Blob(self._hash.hexdigest(), self.size_bytes)
        try:
            with storage_errors(self._path):
                os.fsync(self._file)
            self._keep(self._path, blob)
        finally:
            self.discard()
        return blob

    def discard(self) -> None:
        """Forget what came. Does nothing after a commit."""
        if self._file is not None:
            self._hash.end()
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.discard()


class _Hash:
    """A SHA-256 that is reckoned beside the writing once there is enough to make it worth a thread."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._queue: Queue[list[bytes] | None] = Queue(_AHEAD)
        self._thread: Thread | None = None

    def update(self, chunk: bytes) -> None:
        self._gathered.append(chunk)
        self._gathered_bytes += len(chunk)
        if self._gathered_bytes < _WORTH:
            return
        if self._thread is None:
            self._thread = Thread(target=self._work, name="aimass-hash", daemon=True)
            self._thread.start()
        self._queue.put(self._gathered)
        self._gathered, self._gathered_bytes = [], 0

    def hexdigest(self) -> str:
        """The hash of everything. Ends the thread."""
        self.end()
        for chunk in self._gathered:
            self._hash.update(chunk)
        self._gathered = []
        return self._hash.hexdigest()

    def end(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (chunks := self._queue.get()) is not None:
            for chunk in chunks:
                self._hash.update(chunk)


def _write_all(file: int, chunk: bytes | bytearray | memoryview) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(file, view) :]
