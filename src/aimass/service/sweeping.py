"""Bytes that nobody names any more go from the store after a day."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import select

from aimass.core.errors import AimassError
from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.tables import datasets, files, versions

_FIRST_S, _EVERY_S, _OLDER_THAN_S = 300.0, 3600.0, 86400.0
_log = logging.getLogger("aimass.service")


def named(database: Database) -> set[str]:
    """The hashes of all bytes that a file, a data set or a version names."""
    with database.read() as connection:
        found = {*connection.execute(select(files.c.sha256)).scalars(), *connection.execute(select(datasets.c.sha256)).scalars()}
        for kept in connection.execute(select(versions.c.files)).scalars():
            found.update(file["sha256"] for file in kept.values())
    return found - {None}


class Sweeper:
    """Sweeps the store once an hour. Services that share a store may all do so: what was put in just now is young, and stays."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database, self._blobs = database, blobs
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._sweep, name="sweeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the sweep that is under way."""
        self._leave.set()
        if self._thread.is_alive():
            self._thread.join()

    def _sweep(self) -> None:
        wait_s = _FIRST_S
        while not self._leave.wait(wait_s):
            wait_s = _EVERY_S
            try:
                gone = self._blobs.sweep(named(self._database), _OLDER_THAN_S)
                _log.info("swept the store: %d blobs that nobody named are gone", gone)
            except AimassError as error:
                _log.warning("the store was not swept: %s", error)
