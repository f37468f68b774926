"""What the gateway and a Prediction Engine say to each other over their socket.

A frame is, in little-endian byte order:

    u32   how many bytes follow
    u16   how many of them are the header
    ...   the header: an `Ask` or a `Reply` as a msgpack array
    ...   the body: a request or a response just as HTTP carries it, or msgpack for `load`, `unload` and `stats`

Either side may send at any time, and replies come in any order: `id` tells which question one answers. Bytes that are no
frame end the connection, since nothing after them can be trusted.
"""

from __future__ import annotations

import struct
from typing import Any, Generic, TypeVar

import msgspec

from aimass.core.errors import DataError, TooLarge

MAX_FRAME_BYTES = 256 << 20
_LENGTH = struct.Struct("<I")
_LENGTHS = struct.Struct("<IH")


class Ask(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an engine is asked.

    Args:
        id: the asker's number for it, which the reply carries.
        op: `answer`, `load`, `unload` or `stats`.
        model: the id of the model's version; empty for `stats`.
        kind: how an `answer`'s body is written: `predict` or `infer`; else empty.
        json_length: how many bytes of an `infer`'s body are JSON; the rest is binary data. 0 where all are.
    """

    id: int
    op: str
    model: str = ""
    kind: str = ""
    json_length: int = 0


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an engine answers.

    Args:
        id: of the question.
        status: as HTTP has it; the body of one from 400 on is `{"error": {...}}`.
        rows: how many rows were answered.
        compute_us: the request's share, by rows, of what its batch took, in microseconds.
        json_length: how many bytes of the body are JSON, where binary data follow; 0 where all are.
        batch_rows: how many rows the batch had.
        queue_us: how long the request waited for its batch to start, in microseconds.
    """

    id: int
    status: int
    rows: int = 0
    compute_us: int = 0
    json_length: int = 0
    batch_rows: int = 0
    queue_us: int = 0


Header = TypeVar("Header", Ask, Reply)

_encode = msgspec.msgpack.Encoder().encode


def frame(header: Ask | Reply, body: bytes | bytearray | memoryview[int] = b"") -> bytes:
    """The bytes of one frame.

    >>> FrameReader(Ask).feed(frame(Ask(7, "stats"), b"now"))
    [(Ask(id=7, op='stats', model='', kind='', json_length=0), b'now')]

    Raises:
        TooLarge: it has more than `MAX_FRAME_BYTES`.
    """
    head = _encode(header)
    length = 2 + len(head) + len(body)
    if length > MAX_FRAME_BYTES:
        raise TooLarge(f"{length} bytes do not fit into one frame of {MAX_FRAME_BYTES}; send fewer rows at a time")
    return b"".join((_LENGTHS.pack(length, len(head)), head, body))


class FrameReader(Generic[Header]):
    """Cuts a stream of bytes into frames, however the bytes arrive.

    Args:
        header: what the other side sends, `Ask` or `Reply`.
    """

    def __init__(self, header: type[Header]) -> None:
        self._decode: Any = msgspec.msgpack.Decoder(header).decode
        self._rest = bytearray()

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[tuple[Header, bytes]]:
        """Headers and bodies of the frames that `data` completes, in order.

        Raises:
            DataError: the bytes are no frame, or a frame of more than `MAX_FRAME_BYTES`.
        """
        rest = self._rest
        if not rest:
            frames, used = self._cut(data)
            if used < len(data):
                rest += memoryview(data)[used:]
            return frames
        rest += data
        if len(rest) < 4 or len(rest) < 4 + _LENGTH.unpack_from(rest)[0] <= 4 + MAX_FRAME_BYTES:
            return []
        frames, used = self._cut(rest)
        del rest[:used]
        return frames

    def _cut(self, data: bytes | bytearray) -> tuple[list[tuple[Header, bytes]], int]:
        """The whole frames at the start of `data`, and how many bytes they take."""
        frames: list[tuple[Header, bytes]] = []
        at, size = 0, len(data)
        while size - at >= 4:
            length = _LENGTH.unpack_from(data, at)[0]
            if length > MAX_FRAME_BYTES:
                raise DataError(f"a frame says that it has {length} bytes, and {MAX_FRAME_BYTES} are allowed; the connection ends")
            end = at + 4 + length
            if end > size:
                break
            frames.append(self._read(data, at, end))
            at = end
        return frames, at

    def _read(self, data: bytes | bytearray, at: int, end: int) -> tuple[Header, bytes]:
        body = at + 6 + (_LENGTHS.unpack_from(data, at)[1] if end - at >= 6 else 0)
        if not at + 6 < body <= end:
            raise DataError("a frame is shorter than the header that it announces; the connection ends")
        try:
            return self._decode(data[at + 6 : body]), bytes(memoryview(data)[body:end])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"a frame's header cannot be read ({error}); the connection ends") from None
