"""What happened, in one envelope: `{v, run, seq, time, type, data}`, a JSON line each.

A run's folder holds the lines in order. Readers ignore types that they do not know and a last line that a kill cut short.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, ClassVar, Self

from aimass.core.errors import UsageError, storage_errors

VERSION = 1
_MOST_WAITING_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Event:
    """The base of every event. A subclass names its `kind`, which is the envelope's type, and has its data as fields."""

    kind: ClassVar[str] = ""
    known: ClassVar[dict[str, type[Event]]] = {}

    def __init_subclass__(cls) -> None:
        Event.known[cls.kind] = cls


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """One event, with when and where it happened."""

    run: str
    seq: int
    time: float
    type: str
    data: dict[str, Any] = field(default_factory=dict)
    v: int = VERSION

    def event(self) -> Event | None:
        """The typed event, or None where this release does not know the type."""
        kind = Event.known.get(self.type)
        if kind is None:
            return None
        names = set(kind.__dataclass_fields__)
        return kind(**{name: value for name, value in self.data.items() if name in names})


class EventLog:
    """The append-only file of one run's events. One process writes, from any of its threads; any number read.

    While the disk is full, lines wait in memory: what is being told of need not end because it cannot be told now.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run
        self._waiting = b""
        self._lock = threading.Lock()
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            flock(self._file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise UsageError(f"{run} is being driven just now; wait for it, or stop it first") from None
        with storage_errors(path):
            _cut_torn_line(path)
        self._next = max((envelope.seq for envelope in read_events(path)), default=-1) + 1

    def append(self, event: Event) -> Envelope:
        """Write one event as a line of its own.

        Raises:
            StorageError: the line could not be written, and too many wait for a full disk.
        """
        with self._lock:
            envelope = Envelope(run=self.run, seq=self._next, time=time.time(), type=event.kind, data=asdict(event))
            self._waiting += json.dumps(asdict(envelope), ensure_ascii=False, allow_nan=False).encode() + b"\n"
            self._next += 1
            self._write(_MOST_WAITING_BYTES)
        return envelope

    def _write(self, may_wait_bytes: int) -> None:
        with storage_errors(self.path):
            try:
                written = os.write(self._file, self._waiting)
                if written != len(self._waiting):
                    os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._waiting = b""
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or len(self._waiting) > may_wait_bytes:
                    raise

    def close(self) -> None:
        """Close the file. The log can be opened again.

        Raises:
            StorageError: lines were waiting for a disk that is still full; they are lost.
        """
        if self._file >= 0:
            try:
                if self._waiting:
                    self._write(0)
            finally:
                self._waiting = b""
                os.close(self._file)
                self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_events(path: Path, after: int = -1) -> Iterator[Envelope]:
    """The events of a log in order, those with a `seq` above `after`."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            raw = json.loads(line)
            if raw["seq"] > after:
                yield Envelope(**{name: raw[name] for name in ("run", "seq", "time", "type", "data", "v")})


def _cut_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.truncate(path, whole)
