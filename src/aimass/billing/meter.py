"""The meter: what a gateway calls for every request, and the thread behind it that posts.

On the path of a request: `admit`, the answer, `charge` (the record is in the log when it returns), the response, `sent`.
Everything else, the database above all, is the thread's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aimass.billing import prices
from aimass.billing.poster import Poster
from aimass.billing.record import UsageLog
from aimass.core.errors import AimassError
from aimass.store.database import Database

ITEM, UNIT = "prediction", "row"

_POST_EVERY_S = 0.2
_ADOPT_EVERY_S = 2.0
_log = logging.getLogger(__name__)


class Meter:
    """Records, prices and posts the answers of one gateway.

    Args:
        home: its folder `usage` holds the logs.
        clock: the time in Unix seconds.
    """

    def __init__(self, database: Database, home: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._home, self._clock = database, home, clock
        self._poster = Poster(database, home)
        self._wake, self._leaving = threading.Event(), False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open a log, make it known, and begin to post.

        Raises:
            StorageError: the folder cannot be written, or the database does not answer.
        """
        prices.ensure(self._database)
        self._read_prices()
        self._log = UsageLog(self._home / "usage")
        self._poster.register(self._log)
        self._thread = threading.Thread(target=self._run, name="aimass-meter", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the log and post all of it. What the database does not take now is adopted by the next meter."""
        if self._thread is None:
            return
        self._leaving = True
        self._wake.set()
        self._thread.join()
        self._thread = None
        self._log.close()
        self._quietly(lambda: self._poster.drain(self._log))

    def admit(self, project: str, item_cost_hint: int = 1) -> Awaitable[None] | None:
        """Whether a request may go on. None: it may."""
        return None

    def charge(
        self,
        *,
        project: str,
        key: str | None,
        model: str,
        version: int | None,
        rows: int,
        request_id: str | None,
        compute_us: int,
        event_id: str | None = None,
    ) -> int:
        """Record an answer that is about to leave.

        Returns:
            the ticket for `sent` or `credit`.

        Raises:
            StorageError: it could not be recorded; the answer must not leave.
        """
        now, price = self._clock(), self._price
        amount = price.amount_micro(rows)
        return self._log.charge(
            now, project, key, ITEM, ITEM, model, version, rows, UNIT, request_id, compute_us, price.id, amount, None, event_id
        )

    def sent(self, ticket: int) -> None:
        """The answer was handed to the operating system."""
        self._log.sent(ticket)

    def credit(self, ticket: int) -> None:
        """The caller was gone before the last byte: what was charged is given back."""
        self._log.credit(ticket)

    def changed(self) -> None:
        """Prices or budgets changed: read them again now."""
        self._wake.set()

    def _run(self) -> None:
        adopt_at = 0.0
        while not self._leaving:
            self._quietly(self._turn)
            if time.monotonic() >= adopt_at:
                self._quietly(self._poster.adopt)
                adopt_at = time.monotonic() + _ADOPT_EVERY_S
            self._wake.wait(_POST_EVERY_S)
            self._wake.clear()

    def _turn(self) -> None:
        self._log.flush()
        self._poster.post(self._log.incarnation)
        self._read_prices()

    def _read_prices(self) -> None:
        with self._database.read() as connection:
            self._price = prices.read(connection).at(ITEM, self._clock())

    def _quietly(self, work: Callable[[], object]) -> None:
        """Do what can be done later as well: a database that is away must not stop the answers, which are in the log."""
        try:
            work()
        except AimassError as error:
            _log.warning("posting usage waits: %s", error)
