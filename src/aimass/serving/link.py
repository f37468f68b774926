"""The center's end of an engine's socket: many questions under way at once, what one tick of the loop asks is written together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from aimass.core.errors import AimassError, Unavailable
from aimass.serving.frames import Ask, FrameReader, Reply, frame

Answer = tuple[Reply, bytes]
"""An engine's reply, and its body."""


class EngineLost(Unavailable):
    """The engine went away before it answered. Nothing was charged, so the question may be asked elsewhere."""


class EngineLink(asyncio.Protocol):
    """One connection to one engine.

    >>> async def talk(path: Path) -> bytes:
    ...     link = await EngineLink.open(path)
    ...     reply, body = await link.ask("stats")
    ...     return body
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(Reply)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._next = 0
        self._out: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.when_lost: Callable[[], None] = _nothing

    @classmethod
    async def open(cls, path: Path) -> EngineLink:
        """Connect to an engine that listens at `path`."""
        _, link = await asyncio.get_running_loop().create_unix_connection(cls, str(path))
        return link

    def ask(self, op: str, model: str = "", kind: str = "", json_length: int = 0, body: bytes = b"") -> asyncio.Future[Answer]:
        """Ask the engine; what to await for its reply.

        Raises:
            EngineLost: the connection has ended, now or before the reply came.
            TooLarge: the body does not fit into a frame.
        """
        if self._transport is None:
            raise EngineLost("the engine is gone; try again")
        self._next = number = self._next + 1
        data = frame(Ask(number, op, model, kind, json_length), body)
        future = self._waiting[number] = self._loop.create_future()
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        return future

    def outlive(self, given_up: asyncio.Future[Answer]) -> asyncio.Future[Answer] | None:
        """What becomes of a question whose asker has left; None where it is answered, or the engine is gone."""
        for number, waiting in self._waiting.items():
            if waiting is given_up:
                future = self._waiting[number] = self._loop.create_future()
                return future
        return None

    def close(self) -> None:
        """Hang up. Whoever still waits is told that the engine is lost."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None:
            self._transport.writelines(out)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has connected."""
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "writelines")
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Hand each reply to the one who waits for it."""
        try:
            frames = self._reader.feed(data)
        except AimassError:
            self.close()
            return
        for answer in frames:
            future = self._waiting.pop(answer[0].id, None)
            if future is not None and not future.done():
                future.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """The engine is gone: first the one who keeps it learns it, so that nobody is sent there again, then everyone who waits."""
        self._transport = None
        try:
            self.when_lost()
        finally:
            waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                if not future.done():
                    future.set_exception(EngineLost("the engine ended before it answered; try again"))
            if not self.lost.done():
                self.lost.set_result(str(error or "its connection ended"))


def _nothing() -> None:
    """Nobody minds."""


def error_of(body: bytes, status: int) -> AimassError:
    """The error that an engine's reply carries, of the class that its code names.

    >>> error_of(b'{"error": {"message": "no room", "code": "too_large"}}', 413)
    TooLarge('no room')
    """
    try:
        told = msgspec.json.decode(body)["error"]
        message, code = str(told["message"]), str(told.get("code"))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        message, code = f"the engine answered {status} without saying why", ""
    return next((kind for kind in _classes(AimassError) if kind.code == code), Unavailable)(message)


def is_not_loaded(body: bytes) -> bool:
    """Whether an engine's error says that it does not hold the model.

    >>> is_not_loaded(b'{"error":{"message":"it is not here","code":"model_not_loaded"}}')
    True
    """
    try:
        return bool(msgspec.json.decode(body)["error"]["code"] == "model_not_loaded")
    except (msgspec.DecodeError, KeyError, TypeError):
        return False


def _classes(kind: type[AimassError]) -> list[type[AimassError]]:
    return [each for below in kind.__subclasses__() for each in (below, *_classes(below)) if each is not EngineLost]
