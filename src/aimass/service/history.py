"""The history of the Prediction Engines, on its way from the event loop to the database."""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any

from sqlalchemy import delete

from aimass.core.errors import AimassError
from aimass.core.ids import new_id
from aimass.serving.engines import EngineEvent
from aimass.store.database import Database
from aimass.store.tables import engine_events

_KEPT_S = 30 * 86400
_AT_ONCE = 500
_log = logging.getLogger("aimass.service")


class EngineHistory:
    """Takes events without waiting, and writes them from a thread. Events of a month are kept."""

    def __init__(self, database: Database, service: str) -> None:
        self._database, self._service = database, service
        self._coming: queue.SimpleQueue[EngineEvent | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="engine-history", daemon=True)

    def tell(self, event: EngineEvent) -> None:
        """Note an event. Never waits."""
        self._coming.put(event)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Write what there is, and end the thread."""
        self._coming.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _write(self) -> None:
        while (event := self._coming.get()) is not None:
            rows = [self._row(event)]
            while len(rows) < _AT_ONCE and not self._coming.empty():
                following = self._coming.get()
                if following is None:
                    self._coming.put(None)
                    break
                rows.append(self._row(following))
            try:
                with self._database.write() as connection:
                    connection.execute(engine_events.insert(), rows)
                    connection.execute(delete(engine_events).where(engine_events.c.time < rows[-1]["time"] - _KEPT_S))
            except AimassError as error:
                _log.warning("%d engine events were not kept: %s", len(rows), error)

    def _row(self, event: EngineEvent) -> dict[str, Any]:
        found = {"id": new_id("event"), "service": self._service, "engine": event.engine, "time": event.time}
        return {**found, "type": event.type, "data": dict(event.data)}
