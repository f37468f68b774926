"""The driver's end of a worker's pipe. It never waits: what the other end does not take stays here until it does.

A message is framed as `multiprocessing.connection.Connection` frames it, which is what the worker holds: its length in four
bytes, most significant first; or -1 and the length in eight.
"""

from __future__ import annotations

import socket
import struct
from collections import deque

_LONGEST_SHORT = 0x7FFFFFFF
_READ_BYTES = 1 << 16


class Wire:
    """One end of a stream of whole messages.

    Args:
        end: a connected socket, which is closed with the wire.

    >>> ours, theirs = map(Wire, socket.socketpair())
    >>> ours.send(b"stop"), theirs.receive()
    (None, [b'stop'])
    >>> ours.close(); theirs.close()
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._unsent: deque[memoryview] = deque()
        self._received = bytearray()
        self.is_closed = False

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for the other end."""
        return bool(self._unsent) and not self.is_closed

    def send(self, message: bytes) -> None:
        """Send one message, now or as soon as the other end takes it. One that is gone is no error here."""
        size = len(message)
        header = struct.pack("!i", size) if size <= _LONGEST_SHORT else struct.pack("!iQ", -1, size)
        self._unsent.extend((memoryview(header), memoryview(message)))
        self.flush()

    def flush(self) -> None:
        """Send what the other end takes just now."""
        while self.has_unsent:
            part = self._unsent[0]
            try:
                sent = self._socket.send(part)
            except BlockingIOError:
                return
            except OSError:  # the other end is gone, and whoever watches the process will know
                self._unsent.clear()
                return
            if sent < len(part):
                self._unsent[0] = part[sent:]
            else:
                self._unsent.popleft()

    def receive(self) -> list[bytes]:
        """The messages that have arrived whole since the last call."""
        while not self.is_closed:
            try:
                part = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                part = b""
            self._received += part
            self.is_closed = not part
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> bytes | None:
        """Take the first message out of what was received, if it is there to its end."""
        received = self._received
        if len(received) < 4:
            return None
        start, (size,) = 4, struct.unpack_from("!i", received)
        if size < 0:
            if len(received) < 12:
                return None
            start, (size,) = 12, struct.unpack_from("!Q", received, 4)
        if len(received) < start + size:
            return None
        message = bytes(received[start : start + size])
        del received[: start + size]
        return message

    def close(self) -> None:
        """Give the descriptor back."""
        self.is_closed = True
        self._unsent.clear()
        self._socket.close()

    def __del__(self) -> None:
        self.close()
