"""Reading the body of a request: bounded in bytes and in time, of a known type."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aimass.core.errors import TooLarge, UsageError
from aimass.serving.problems import BodyTooSlow, ClientGone, UnsupportedType

Receive = Callable[[], Awaitable[Any]]

_TYPES = {
    "predict": (b"application/json",),
    "infer": (b"application/json", b"application/octet-stream", b"application/vnd.sagemaker-triton.binary+json"),
}
_SLOWEST_BYTES_PER_S = 100_000


class Bodies:
    """Reads bodies, and gives up on those that do not end.

    The time of a body is not kept by a timer of its own, which would cost as much as all the rest: one look a second at those
    that are under way is enough.

    Args:
        max_bytes: of one body.
        limit_s: that a body may take, plus its length at 100 kB a second.
    """

    def __init__(self, max_bytes: int, limit_s: float) -> None:
        self._max_bytes, self._limit_s = max_bytes, limit_s
        self._under_way: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._looking = False

    def check(self, kind: str, headers: Mapping[bytes, bytes]) -> None:
        """Refuse by the headers alone what need not be read.

        Raises:
            UnsupportedType: neither JSON nor, for `infer`, binary tensors after JSON.
            TooLarge: the length that it announces is over the limit.
        """
        said = headers.get(b"content-type")
        if said is not None and said not in _TYPES[kind] and said.partition(b";")[0].strip().lower() not in _TYPES[kind]:
            raise UnsupportedType(f"the body is of type {said[:80].decode('latin-1')!r}; send 'content-type: application/json'")
        coding = headers.get(b"content-encoding")
        if coding is not None and coding.lower() != b"identity":
            raise UnsupportedType(f"the body is encoded as {coding[:40].decode('latin-1')!r}; send it as it is")
        length = headers.get(b"content-length")
        if length is not None and len(length) > 5 and length.isdigit() and int(length) > self._max_bytes:
            raise self._too_large()

    async def read(self, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            TooLarge: it is longer than allowed.
            BodyTooSlow: it did not end in time.
            ClientGone: the client went before its end.
        """
        if getattr(getattr(receive, "__self__", None), "more_body", True) is False:  # uvicorn has all of it: nothing to wait for
            return await self._read_whole(receive)
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._under_way[task] = loop.time()
        if not self._looking:
            self._looking = True
            loop.call_later(1.0, self._look, loop)
        try:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the client went before the end of its request")
            body: bytes = message.get("body", b"")
            if not message.get("more_body", False) and len(body) <= self._max_bytes:
                return body
            return await self._read_rest(task, receive, body, message.get("more_body", False))
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise BodyTooSlow(f"the request's body did not end within {self._limit_s:.0f} s; send it faster, or in parts") from None
        finally:
            del self._under_way[task]
            self._late.discard(task)

    async def _read_whole(self, receive: Receive) -> bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the client went before the end of its request")
        body: bytes = message.get("body", b"")
        if len(body) > self._max_bytes:
            raise self._too_large()
        return body

    async def _read_rest(self, task: asyncio.Task[Any], receive: Receive, first: bytes, more: bool) -> bytes:
        parts, size = [first], len(first)
        while more and size <= self._max_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the client went before the end of its request")
            part, more = message.get("body", b""), message.get("more_body", False)
            parts.append(part)
            size += len(part)
            self._under_way[task] += len(part) / _SLOWEST_BYTES_PER_S
        if size > self._max_bytes:
            raise self._too_large()
        return b"".join(parts)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body has more than {self._max_bytes} bytes; send fewer rows in a request")

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Once a second: end the reading of bodies that take too long."""
        now = loop.time()
        for task, since in self._under_way.items():
            if now - since > self._limit_s:
                self._late.add(task)
                task.cancel()
        self._looking = bool(self._under_way)
        if self._looking:
            loop.call_later(1.0, self._look, loop)


def json_length(headers: Mapping[bytes, bytes], size_bytes: int) -> int:
    """How many bytes of an `infer`'s body are JSON; 0 where all are.

    >>> json_length({b"inference-header-content-length": b"120"}, 500)
    120

    Raises:
        UsageError: the header is no number, or more than the body has.
    """
    said = headers.get(b"inference-header-content-length")
    if said is None:
        return 0
    if not (said.isdigit() and len(said) < 12 and 0 < int(said) <= size_bytes):
        error = UsageError(
            f"Inference-Header-Content-Length is {said[:20].decode('latin-1')!r}; it counts the bytes of the JSON, 1 to {size_bytes} here"
        )
        error.param = "Inference-Header-Content-Length"
        raise error
    return int(said)
