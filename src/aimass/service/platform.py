"""Everything that a service is made of, put together once: settings, database, store, keys, jobs, engines and the bill."""

from __future__ import annotations

import logging
import socket
import uuid

from aimass.core.files import sweep_unfinished
from aimass.service.auth import Keys
from aimass.service.changes import Changes
from aimass.service.settings import ServiceSettings
from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.registry import Registry

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
        settings.home.mkdir(parents=True, exist_ok=True)
        self.cache = settings.home / "cache"
        self.cache.mkdir(exist_ok=True)
        self.database = Database.open(settings.database)
        self.blobs = Blobs(settings.store)
        self.registry = Registry(self.database, self.blobs)
        self.changes = Changes(self.database)
        self.keys = Keys(self.database)
        self.admin_key: str | None = None

    def start(self) -> None:
        """Make the first key where there is none, and begin to follow changes."""
        sweep_unfinished(self.cache)
        self.admin_key = self.keys.first()
        self.changes.on("keys", self.keys.read)
        self.changes.start()

    def close(self) -> None:
        """Leave in order. What runs in processes of its own goes on."""
        self.changes.close()
        self.database.close()
