"""uvicorn's HTTP protocol, with the head and the body of a response in one write, and with heads of requests that have to end.

ASGI sends them apart, and uvloop hands each write to the kernel at once: two system calls, and two times that the client is woken. Here
what one turn of the loop writes to a connection is kept until the turn's end.

uvicorn waits for the head of a request for ever, and takes any length of it, from clients of whom nothing is known yet.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65536
HEAD_LIMIT_S = 30.0
_LONG_BYTES = 65536


class OneWrite:
    """A transport that writes once a turn of the loop; all else is the transport's below.

    Args:
        transport: the connection's.
        loop: the running one.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._below, self._loop, self._out = transport, loop, list[bytes]()

    def write(self, data: bytes) -> None:
        """Keep data for the end of the turn."""
        if len(data) > _LONG_BYTES:  # so that flow control sees it: whoever reads slowly, or leaves, is noticed
            self._flush()
            self._below.write(data)
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def close(self) -> None:
        """Write what is kept, then close."""
        self._flush()
        self._below.close()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and not self._below.is_closing():
            self._below.write(out[0] if len(out) == 1 else b"".join(out))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)


class OneWriteProtocol(HttpToolsProtocol):
    """For uvicorn's setting `http`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]
        self._head_bytes = 0
        self._seen: object = None
        self._timer = self.loop.call_later(HEAD_LIMIT_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was sent away."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come; what comes of one head is counted."""
        before = self.scope
        super().data_received(data)
        if self.scope is not before or not self._is_in_head():
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head of the request has more than {HEAD_BYTES} bytes.")

    def _is_in_head(self) -> bool:
        """Whether a request has begun, or is to begin, and its head has not ended."""
        return self.cycle is None or self.cycle.scope is not self.scope

    def _look(self) -> None:
        """Close the connection where nothing but the same head, or the same body that nobody wants, was on its way since the last look."""
        is_idle = self.timeout_keep_alive_task is not None  # uvicorn has a timer of its own for that
        if not is_idle and self._seen is self.scope and (self._is_in_head() or self.cycle.response_complete):
            self.transport.close()
            return
        self._seen = self.scope
        self._timer = self.loop.call_later(HEAD_LIMIT_S, self._look)
