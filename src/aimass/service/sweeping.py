"""Bytes that nobody names any more go from the store after a day."""

from __future__ import annotations

import logging
import threading

from aimass.core.errors import AimassError
from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.sweep import sweep

_FIRST_S, _EVERY_S, _LEAVING_S = 300.0, 3600.0, 2.0
_log = logging.getLogger("aimass.service")


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
        """End the thread. A long sweep that is under way is not waited for: it can be broken off at any moment."""
        self._leave.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVING_S)

    def _sweep(self) -> None:
        wait_s = _FIRST_S
        while not self._leave.wait(wait_s):
            wait_s = _EVERY_S
            try:
                gone = sweep(self._database, self._blobs)
                _log.info("swept the store: %d blobs that nobody named are gone", gone)
            except AimassError as error:
                _log.warning("the store was not swept: %s", error)
            except Exception:  # noqa: BLE001 - a thread that ended would sweep nothing any more
                _log.exception("the store was not swept")
