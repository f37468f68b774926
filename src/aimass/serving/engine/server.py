"""The engine's end of the socket: frames in, frames out, and an orderly end.

It ends when it is told to (SIGTERM: what was read is answered first), or when no gateway has been connected for a while. That
the process which started it is gone ends it at once (see `parent`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import msgspec

from aimass.core.errors import AimassError, DataError, UsageError, unknown_name
from aimass.serving.engine.batcher import Batcher
from aimass.serving.engine.failures import failure_of
from aimass.serving.engine.models import LoadedModel, Models, own_memory_bytes
from aimass.serving.frames import Ask, FrameReader, Reply, frame
from aimass.serving.problems import problem

_MOST_WAITING_BYTES = 64 << 20
_LEAVE_S = 5.0  # how long a gateway may take to read the last replies
_pack = msgspec.msgpack.Encoder().encode


class LoadOrder(msgspec.Struct):
    """The body of `load`.

    Args:
        folder: of the saved model.
        name: what the registry calls it.
        version: its number.
        settings: of its deployment.
    """

    folder: str
    name: str
    version: int
    settings: dict[str, Any] = {}


class Server:
    """One engine. Built and used on the running loop.

    Args:
        models: those that it holds.
        idle_s: how long it waits for a gateway.
    """

    def __init__(self, models: Models, idle_s: float) -> None:
        self.models = models
        self.batcher = Batcher(models, self._emptied)
        self._connections: set[Connection] = set()
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._ended = asyncio.Event()
        self._leaving = False
        self._is_holding_back = False
        self._started = time.time()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer = self._loop.call_later(idle_s, self.leave)

    async def run(self, bound: socket.socket, announce: Callable[[], None]) -> None:
        """Listen until it ends.

        Args:
            bound: a socket at its path.
            announce: called once somebody can connect.
        """
        listener = await self._loop.create_unix_server(lambda: Connection(self), sock=bound)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.leave)
        announce()
        try:
            await self._ended.wait()
        finally:
            listener.close()
            self._loader.shutdown(wait=False, cancel_futures=True)

    def leave(self) -> None:
        """Answer what was read, then end."""
        if self._leaving:
            return
        self._leaving = True
        for connection in self._connections:
            connection.stop_reading()
        self._loop.call_later(_LEAVE_S, self._ended.set)
        if self.batcher.is_empty:
            self._emptied()

    def opened(self, connection: Connection) -> None:
        """Somebody has connected."""
        self._timer.cancel()
        self._connections.add(connection)
        if self._leaving:
            connection.end()

    def closed(self, connection: Connection) -> None:
        """Somebody is gone. Without anybody, the engine waits for the next one, and not for long."""
        self._connections.discard(connection)
        if self._connections:
            return
        if self._leaving:
            self._ended.set()
        self._timer = self._loop.call_later(self._idle_s, self.leave)

    def take(self, connection: Connection, ask: Ask, body: bytes) -> None:
        """Do what one frame asks for."""
        if ask.op == "answer":
            self.batcher.put(connection, ask, body)
            if self.batcher.waiting_bytes > _MOST_WAITING_BYTES and not self._is_holding_back:
                self._is_holding_back = True
                for each in self._connections:
                    each.stop_reading()
            return
        try:
            if ask.op == "unload":
                self.batcher.finish(ask.model)
                connection.send(Reply(ask.id, 200), _pack({"bytes": self.models.unload(ask.model)}))
            elif ask.op == "load":
                self._keep(self._load(connection, ask, body))
            elif ask.op == "stats":
                self._keep(self._tell(connection, ask))
            else:
                raise unknown_name("operation", ask.op, ("answer", "load", "unload", "stats"))
        except AimassError as error:
            connection.refuse(ask, error)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside the rest."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, connection: Connection, ask: Ask) -> None:
        """Say how the engine is: what it holds, what waits, and what it has used until now."""
        memory_bytes = await self._loop.run_in_executor(None, own_memory_bytes)  # takes the kernel milliseconds
        spent = self.batcher.spent
        stats = {
            "pid": os.getpid(),
            "memory_bytes": memory_bytes,
            "models": [{"id": loaded.id, "bytes": loaded.size_bytes, "requests": loaded.requests} for loaded in self.models],
            "queued_rows": self.batcher.queued_rows(),
            "batches": spent.batches,
            "rows": spent.rows,
            "cpu_s": time.process_time(),
            "model_cpu_s": spent.model_s,
            "started": self._started,
        }
        connection.send(Reply(ask.id, 200), _pack(stats))

    async def _load(self, connection: Connection, ask: Ask, body: bytes) -> None:
        """Load in a thread, so that other models go on answering."""
        try:
            loaded = await self._loop.run_in_executor(self._loader, self._load_now, ask.model, body)
        except AimassError as error:
            connection.refuse(ask, error)
            return
        except Exception as error:  # noqa: BLE001 - whatever a damaged folder does, the asker is told and the engine goes on
            message = f"the model cannot be loaded ({type(error).__name__}: {str(error)[:200]}); save it again"
            connection.send(Reply(ask.id, 500), problem(500, message, "internal"))
            return
        connection.send(Reply(ask.id, 200), _pack({"bytes": loaded.size_bytes, "signature": loaded.model.signature()}))

    def _load_now(self, id: str, body: bytes) -> LoadedModel:
        try:
            order = msgspec.msgpack.decode(body, type=LoadOrder)
        except msgspec.DecodeError as error:
            raise UsageError(f"the order to load {id!r} cannot be read ({error}); give folder, name, version and settings") from None
        return self.models.load(id, Path(order.folder), order.name, order.version, order.settings)

    def _emptied(self) -> None:
        if not self._leaving:
            if self._is_holding_back:
                self._is_holding_back = False
                for connection in self._connections:
                    connection.go_on_reading()
            return
        for connection in list(self._connections):
            connection.end()
        if not self._connections:
            self._ended.set()


class Connection(asyncio.Protocol):
    """One gateway."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._frames = FrameReader(Ask)
        self._out: list[bytes] = []
        self._is_full = False  # the gateway does not read what it was sent
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._frames.feed(data)
        except DataError as error:
            print(f"engine: {error}", file=sys.stderr)  # noqa: T201 - the engine's log
            self._transport.abort()
            return
        for ask, body in frames:
            self._server.take(self, ask, body)
        self._server.batcher.run()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._is_full = True
        self.stop_reading()

    def resume_writing(self) -> None:
        self._is_full = False
        self.go_on_reading()

    def put(self, data: bytes) -> None:
        """Keep a reply's frame for the next `flush`."""
        self._out.append(data)

    def flush(self) -> None:
        """Send what was put."""
        if not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def send(self, reply: Reply, body: bytes) -> None:
        """Send one reply now."""
        self.put(frame(reply, body))
        self.flush()

    def refuse(self, ask: Ask, error: AimassError) -> None:
        """Reply with an error."""
        status, body = failure_of(error)
        self.send(Reply(ask.id, status), body)

    def stop_reading(self) -> None:
        """Leave what comes in the socket."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on_reading(self) -> None:
        """Read again, unless the gateway does not."""
        if not self._is_full and not self._transport.is_closing():
            self._transport.resume_reading()

    def end(self) -> None:
        """Close once everything is sent."""
        self._transport.close()
