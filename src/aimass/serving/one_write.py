"""uvicorn's HTTP protocol, with the head and the body of a response in one write.

ASGI sends them apart, and uvloop hands each write to the kernel at once: two system calls, and two times that the client is woken. Here
what one turn of the loop writes to a connection is kept until the turn's end.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
