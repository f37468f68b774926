"""How services on one database learn of each other's changes: a number for each subject, which grows in the transaction of every change.

A thread looks at the numbers a few times a second; who changes something in this process looks at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sqlalchemy import Connection, select

from aimass.core.errors import AimassError
from aimass.store.database import Database
from aimass.store.tables import revisions

_INTERVAL_S = 0.3
_log = logging.getLogger("aimass.service")


def bump(database: Database, connection: Connection, name: str) -> None:
    """Let the subject's number grow, in the caller's transaction."""
    statement = database.insert(revisions).values(name=name, number=1)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"number": revisions.c.number + 1}))


class Changes:
    """Calls those who keep something in memory when what they keep has changed."""

    def __init__(self, database: Database, interval_s: float = _INTERVAL_S) -> None:
        self._database, self._interval_s = database, interval_s
        self._readers: dict[str, list[Callable[[], None]]] = {}
        self._seen: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def on(self, name: str, reader: Callable[[], None]) -> None:
        """Call `reader` after each change of the subject, and once at the start."""
        self._readers.setdefault(name, []).append(reader)

    def look(self) -> None:
        """Read the numbers, and tell those whose subject has changed. What this process has committed is known when this returns."""
        with self._lock:
            with self._database.read() as connection:
                numbers = {row.name: row.number for row in connection.execute(select(revisions))}
            for name, readers in self._readers.items():
                number = numbers.get(name, 0)
                if self._seen.get(name) == number:
                    continue
                for reader in readers:
                    reader()
                self._seen[name] = number  # only now: a reader that fails is called again

    def start(self) -> None:
        """Look once, then again and again in a thread."""
        self.look()
        self._thread = threading.Thread(target=self._watch, name="changes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        failing = False
        while not self._stop.wait(self._interval_s):
            try:
                self.look()
                failing = False
            except Exception as error:  # noqa: BLE001 - the database is away: what is in memory goes on to hold, and this goes on to look
                if not failing:
                    _log.warning("changes cannot be read: %s", error, exc_info=not isinstance(error, AimassError))
                failing = True
