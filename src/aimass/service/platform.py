"""Everything that a service is made of, put together once: settings, database, store, keys, jobs, engines and the bill."""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import select

from aimass.billing.meter import Meter
from aimass.core.errors import AimassError, StorageError, Unavailable
from aimass.core.files import sweep_unfinished
from aimass.service.auth import Keys
from aimass.service.changes import Changes
from aimass.service.directory import Directory
from aimass.service.history import EngineHistory
from aimass.service.jobs.limits import Limits
from aimass.service.jobs.service import Jobs
from aimass.service.once import Answers
from aimass.service.settings import ServiceSettings
from aimass.service.sweeping import Sweeper
from aimass.serving.scheduler_center import SchedulerCenter
from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.registry import Registry
from aimass.store.tables import deployments

T = TypeVar("T")
_LONGEST_S = 300.0
_log = logging.getLogger("aimass.service")


class Platform:
    """The rooms of one service. None of them imports torch.

    Args:
        settings: where things are kept, and what may be used.

    Raises:
        StorageError: the database or the store cannot be reached.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.service_id = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self.cache = settings.home / "cache"
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{settings.home} cannot be used ({error.strerror}); choose another folder with --home") from None
        self.database = Database.open(settings.database)
        self.blobs = Blobs(settings.store)
        self.registry = Registry(self.database, self.blobs)
        self.changes = Changes(self.database)
        self.keys = Keys(self.database)
        self.directory = Directory(self.database, self.registry, self.keys, self.cache / "models")
        self.meter = Meter(self.database, settings.home)
        limits = Limits(cpus=settings.cpus, memory_bytes=settings.memory)
        self.jobs = Jobs(self.database, self.blobs, self.registry, settings.home, limits, self.service_id)
        self.answers = Answers(self.database)
        self.sweeper = Sweeper(self.database, self.blobs)
        self.history = EngineHistory(self.database, self.service_id)
        self.center = SchedulerCenter(
            home=settings.home,
            num_engines=settings.engines,
            budget_bytes=settings.engine_memory,
            tell=self.history.tell,
            is_current=self.directory.is_current,
        )
        self.admin_key: str | None = None
        self.leaving = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Make the first key where there is none, follow changes, begin to work."""
        sweep_unfinished(self.cache)
        self.admin_key = self.keys.first()
        self.changes.on("keys", self.keys.read)
        self.changes.on("deployments", self.directory.read)
        self.directory.start()
        self.meter.start()
        self.changes.start()
        self.history.start()
        self.jobs.start()
        self.sweeper.start()

    async def open(self) -> None:
        """What lives on the event loop."""
        self._loop = asyncio.get_running_loop()
        with self.database.read() as connection:
            deployed = connection.execute(select(deployments.c.id).limit(1)).scalar() is not None
        await self.center.start(warm=deployed)

    async def shut(self) -> None:
        """End what lives on the event loop: the engines answer what they have, and leave."""
        await self.center.close()

    def close(self) -> None:
        """Leave in order. The drivers of jobs go on and the next service adopts them, unless the settings say otherwise."""
        rooms = (self.sweeper, self.directory, self.changes, self.meter, self.history, self.database)
        closings: list[Callable[[], None]] = [partial(self.jobs.close, stop_drivers=self.settings.stop_jobs)]
        for close in [*closings, *[room.close for room in rooms]]:
            try:
                close()
            except AimassError as error:  # the others are to be closed all the same
                _log.error("%s was not done in order: %s", close, error)

    def on_loop(self, work: Coroutine[Any, Any, T], limit_s: float = _LONGEST_S) -> T:
        """Have a thread wait for something that the event loop does.

        Raises:
            Unavailable: it took too long.
        """
        assert self._loop is not None, "the service is open"
        coming = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return coming.result(limit_s)
        except TimeoutError:
            coming.cancel()
            raise Unavailable(f"it was not done within {limit_s:.0f} s; look whether it is under way, and try again") from None

    def problems(self) -> list[str]:
        """Why this service cannot answer just now; empty where it can."""
        try:
            with self.database.read() as connection:
                connection.exec_driver_sql("SELECT 1")
        except AimassError as error:
            return [str(error)]
        return []
