"""The usage record: an append-only log, one per gateway incarnation, written before an answer leaves.

A log is a row of frames, each `u32 length | u32 crc32 | payload`, little-endian; the payload is a msgpack array whose first item
is the frame's kind:

    0 opened   version of the format, incarnation
    1 charge   sequence, id, time, project, key, kind, item, model, version, quantity, unit, request, compute_us,
               price, amount_micro, reservation
    2 sent     [sequence, ...]     these answers were handed to the operating system
    3 credit   [sequence, ...]     these were charged, and did not arrive
    4 closed                       the writer has left in order

A charge is in the file when `charge` returns: killing the process loses nothing. The writer holds an exclusive `flock` for as long
as it lives, which is how others tell a living log from one to adopt.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Self
from zlib import crc32

import msgspec

from aimass.core.errors import Conflict, StorageError, Unavailable, storage_errors
from aimass.core.ids import new_id

FORMAT = 1
OPENED, CHARGE, SENT, CREDIT, CLOSED = range(5)
LARGEST_FRAME = 1 << 20
_PIECE_BYTES = 4 << 20

_HEAD = struct.Struct("<II")


class Charge(msgspec.Struct, frozen=True, array_like=True, tag=CHARGE):
    """One answer that was about to leave.

    Args:
        quantity: of `unit`, as the price plan counts it.
        price: the id of the price by which `amount_micro` was reckoned.
        reservation: the slice of a budget that it was taken from.
    """

    sequence: int
    id: str
    time: float
    project: str
    key: str | None
    kind: str
    item: str
    model: str
    version: int | None
    quantity: int
    unit: str
    request: str | None
    compute_us: int
    price: str
    amount_micro: int
    reservation: str | None


class Sent(msgspec.Struct, frozen=True, array_like=True, tag=SENT):
    """Answers that were handed to the operating system."""

    sequences: list[int]


class Credit(msgspec.Struct, frozen=True, array_like=True, tag=CREDIT):
    """Answers that were charged, and did not arrive."""

    sequences: list[int]


class Opened(msgspec.Struct, frozen=True, array_like=True, tag=OPENED):
    """The first frame."""

    format: int
    incarnation: str


class Closed(msgspec.Struct, frozen=True, array_like=True, tag=CLOSED):
    """The last frame of a writer that left in order."""


class Damaged(msgspec.Struct, frozen=True):
    """Bytes between whole frames that are none: `size_bytes` from `position` on."""

    position: int
    size_bytes: int


Frame = Opened | Charge | Sent | Credit | Closed
Record = Frame | Damaged


class UsageLog:
    """The log that one gateway incarnation writes. Safe to use from several threads.

    Args:
        folder: where logs lie; made if need be.
        incarnation: a name that nobody else has; a new id by default.
        first: the sequence of the first charge; a log that follows another of the same process goes on counting.
        fsync: bring every charge to the disk before `charge` returns. A power cut then loses nothing either.

    Raises:
        StorageError: the file cannot be written.
        Conflict: another process writes this log.
    """

    def __init__(self, folder: Path, incarnation: str | None = None, *, first: int = 1, fsync: bool = False) -> None:
        self.incarnation = incarnation or new_id("gw")
        self.path = folder / f"{self.incarnation}.log"
        self._fsync, self._prefix = fsync, f"{self.incarnation}-"
        self.first = self._next = first
        self._sent, self._credited = list[int](), list[int]()
        self._lock, self._encoder = threading.Lock(), msgspec.msgpack.Encoder()
        with storage_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(self._file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise Conflict(f"another process writes the usage log {self.path}; give this gateway a name of its own") from None
        with storage_errors(self.path):
            self.size_bytes = os.fstat(self._file).st_size
        if self.size_bytes:
            os.close(self._file)
            raise Conflict(f"the usage log {self.path} has been written already; give this gateway a new name")
        self._write(_frame(self._encoder.encode((OPENED, FORMAT, self.incarnation))))

    def charge(
        self,
        time: float,
        project: str,
        key: str | None,
        kind: str,
        item: str,
        model: str,
        version: int | None,
        quantity: int,
        unit: str,
        request: str | None,
        compute_us: int,
        price: str,
        amount_micro: int,
        reservation: str | None = None,
        event_id: str | None = None,
    ) -> int:
        """Write a charge. Its bytes are in the file when this returns.

        Returns:
            the ticket by which it is marked as sent or credited.

        Raises:
            StorageError: it could not be written; the answer must not leave.
            Unavailable: the log is closed.
        """
        with self._lock:
            sequence = self._next
            self._next = sequence + 1
            identity = event_id or f"{self._prefix}{sequence:010d}"
            fields = (sequence, identity, time, project, key, kind, item, model, version, quantity, unit, request, compute_us)
            frame = _frame(self._encoder.encode((CHARGE, *fields, price, amount_micro, reservation)))
            if self._sent or self._credited:
                self._write(self._marks() + frame)  # marks first: a charge is then whole only where all of the write is
                self._sent, self._credited = [], []
            else:
                self._write(frame)
            if self._fsync:
                self._sync_charge(sequence)
        return sequence

    def _sync_charge(self, sequence: int) -> None:
        try:
            self.sync()
        except BaseException:
            self._credited.append(sequence)  # it is in the file all the same, and its answer will not leave
            raise

    def sent(self, ticket: int) -> None:
        """The answer was handed to the operating system. Travels with the next write."""
        with self._lock:
            self._sent.append(ticket)

    def credit(self, ticket: int) -> None:
        """The answer did not arrive. Travels with the next write."""
        with self._lock:
            self._credited.append(ticket)

    def flush(self) -> None:
        """Write the marks that wait."""
        with self._lock:
            if (self._sent or self._credited) and self._file >= 0:
                self._write(self._marks())
                self._sent, self._credited = [], []

    @property
    def next(self) -> int:
        """The sequence that the next charge gets."""
        return self._next

    def sync(self) -> None:
        """Bring everything to the disk."""
        with storage_errors(self.path):
            os.fdatasync(self._file)

    def close(self) -> None:
        """Say that the writer left in order, and let go of the log."""
        with self._lock:
            if self._file >= 0:
                self._write(self._marks() + _frame(self._encoder.encode((CLOSED,))))
                self.sync()
                os.close(self._file)
                self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _marks(self) -> bytes:
        waiting = ((SENT, self._sent), (CREDIT, self._credited))
        return b"".join(_frame(self._encoder.encode(marks)) for marks in waiting if marks[1])

    def _write(self, frames: bytes) -> None:
        if self._file < 0:
            raise Unavailable(f"the usage log {self.path} is closed, since its gateway is leaving; try again at another")
        try:
            written = os.write(self._file, frames)
        except OSError:
            with storage_errors(self.path):
                raise
        if written != len(frames):
            os.ftruncate(self._file, self.size_bytes)
            raise StorageError(f"no space is left to write {self.path}; free some, or point AIMASS_HOME at a larger disk")
        self.size_bytes += written


_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def _frame(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), crc32(payload)) + payload


def read_log(path: Path, position: int = 0) -> Iterator[tuple[Record, int]]:
    """The records of a log from a position on, each with the position behind it.

    Stops at a frame that is not whole yet: a write that is under way, or one that a power cut tore. Bytes that are damaged while
    whole frames follow are named by a `Damaged`, and the reading goes on behind them.

    Raises:
        StorageError: the log cannot be read.
    """
    piece = _PIECE_BYTES
    while True:
        content = _piece(path, position, piece)
        begin, at = position, 0
        while end := _whole_frame(content, at) or -_next_frame(content, at):
            if end > 0:
                yield _decoder.decode(content[at + _HEAD.size : end]), begin + end
            else:
                yield Damaged(begin + at, -end - at), begin - end
            at = abs(end)
        position += at
        if len(content) < piece:
            return
        piece = _PIECE_BYTES if at else 2 * piece


def _piece(path: Path, position: int, size_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read(size_bytes)
    except OSError as error:
        raise StorageError(f"the usage log {path} cannot be read ({error.strerror}); bring it back, since it tells who owes what") from None


def _whole_frame(content: bytes, at: int) -> int:
    """Where the frame that begins at `at` ends; 0 where there is no whole one."""
    if at + _HEAD.size > len(content):
        return 0
    length, checksum = _HEAD.unpack_from(content, at)
    end = at + _HEAD.size + int(length)
    if not 0 < length <= LARGEST_FRAME or end > len(content) or crc32(content[at + _HEAD.size : end]) != checksum:
        return 0
    return end


def _next_frame(content: bytes, at: int) -> int:
    """Where the next whole frame begins behind a damaged one; 0 where none follows."""
    return next((begin for begin in range(at + 1, len(content) - _HEAD.size) if _whole_frame(content, begin)), 0)
