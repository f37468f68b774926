"""Serving: from settings to a listening process, and back to nothing in order."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from aimass.core.errors import AimassError, UsageError
from aimass.service.holding import held
from aimass.service.logs import close_log, open_log
from aimass.service.settings import ServiceSettings
from aimass.serving.one_write import OneWriteProtocol

_BACKLOG = 2048
_KEEP_ALIVE_S = 75


@dataclass(frozen=True, kw_only=True)
class Started:
    """What is known of a service that answers.

    Args:
        url: where it answers.
        admin_key: the first admin key, on the first start alone.
        home: where its state lives.
        pid: its process.
    """

    url: str
    admin_key: str | None
    home: Path
    pid: int


def serve(settings: ServiceSettings, announce: Callable[[Started], None]) -> None:
    """Run the service until SIGINT or SIGTERM.

    Args:
        settings: see `read_settings`.
        announce: is called once, when the service answers.

    Raises:
        Conflict: another service lives in the home.
        UsageError: the address cannot be listened on.
        StorageError: the database or the store cannot be reached.
    """
    # 1. The home and the address first: they fail at once where they fail.
    with held(settings.home) as tell:
        listening = _listen(settings.host, settings.port)
        tell(_url(listening))
        log = open_log(settings.home)
        try:
            _answer(settings, listening, announce)
        finally:
            listening.close()
            close_log(log)


def _answer(settings: ServiceSettings, listening: socket.socket, announce: Callable[[Started], None]) -> None:
    # 2. The rooms.
    from aimass.service.app import build
    from aimass.service.platform import Platform

    platform = Platform(settings)
    try:
        platform.start()
        app = build(platform)
        # 3. Answer, until a signal.
        started = Started(url=_url(listening), admin_key=platform.admin_key, home=settings.home, pid=os.getpid())
        server = _Server(app, settings, lambda: announce(started), platform.leaving.set)
        server.run([listening])
        if not server.started:
            raise AimassError(f"the service could not start; {settings.home / 'service.log'} says why")
    finally:
        # 4. Leave: requests have been answered, now the rooms close.
        platform.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        said = getattr(error, "strerror", None) or error
        raise UsageError(f"{host}:{port} cannot be listened on ({said}); stop what listens there, or take another with --port") from None
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared, not listened on
    return f"http://{here}:{port}"


class _Server(uvicorn.Server):
    """uvicorn, with our own order of leaving: a signal ends it as a return, not as a death by that signal."""

    def __init__(self, app: Any, settings: ServiceSettings, ready: Callable[[], None], leaving: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=OneWriteProtocol,
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(settings.shutdown_timeout) or 1,
                backlog=_BACKLOG,
            )
        )
        self._ready, self._leave = ready, leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._leave()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._told) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _told(self, number: int, _: FrameType | None) -> None:
        self.force_exit = self.should_exit and number == signal.SIGINT  # the second Ctrl-C waits for nobody
        self.should_exit = True
