"""The meter: what a gateway calls for every request, and the thread behind it that posts.

The way of one request:
    1 admit     is there budget? None: go on; else wait for a slice of it
    2           the engine answers
    3 charge    the record is in the log when this returns, and not a byte of the answer has left before
    4           the answer is handed to the operating system
    5 sent      or credit, where the caller was gone

Everything else, the database above all, is the thread's: it posts the log, follows prices and budgets, gives back slices, and
adopts the logs of gateways that died.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aimass.billing import prices, reservations
from aimass.billing.poster import Poster
from aimass.billing.prices import Price
from aimass.billing.record import UsageLog
from aimass.billing.slices import Slices
from aimass.billing.statements import revision
from aimass.core.errors import AimassError, unknown_name
from aimass.store.database import Database

ITEM, UNIT = "prediction", "row"
FSYNC = ("never", "interval", "always")

_POST_EVERY_S = 0.2
_MARKS_WAIT_S = 0.003
_SYNC_EVERY_S, _ADOPT_EVERY_S, _RENEW_EVERY_S, _SWEEP_EVERY_S = 1.0, 2.0, 20.0, 3600.0
_LOG_BYTES = 256 << 20  # a longer log is followed by another
_PREVIOUS_S = 900.0  # how long a log that was followed waits for marks
_KEPT_S = 7 * 86_400.0
_log = logging.getLogger(__name__)


class Meter:
    """Records, prices and posts the answers of one gateway.

    Args:
        home: its folder `usage` holds the logs.
        clock: the time in Unix seconds.
        fsync: when records reach the disk itself, which only a power cut can tell: `never` leaves it to the operating system,
            `interval` sees to it once a second, `always` before an answer leaves. `AIMASS_USAGE_FSYNC` by default.
        log_bytes: a log that has grown to this is followed by another.

    Raises:
        UsageError: `fsync` is none of these.
    """

    def __init__(
        self,
        database: Database,
        home: Path,
        *,
        clock: Callable[[], float] = time.time,
        fsync: str | None = None,
        log_bytes: int = _LOG_BYTES,
    ) -> None:
        self.fsync = fsync or os.environ.get("AIMASS_USAGE_FSYNC") or "interval"
        if self.fsync not in FSYNC:
            raise unknown_name("AIMASS_USAGE_FSYNC", self.fsync, FSYNC)
        self._database, self._folder, self._clock, self._log_bytes = database, home / "usage", clock, log_bytes
        self._poster = Poster(database, home)
        self._wake, self._leaving = threading.Event(), False
        self._thread: threading.Thread | None = None
        self._previous: tuple[UsageLog, float] | None = None
        self._flush_due, self._revision, self._posted = False, -1, 0

    def start(self) -> None:
        """Open a log, make it known, and begin to post.

        Raises:
            StorageError: the folder cannot be written, or the database does not answer.
        """
        prices.ensure(self._database)
        self._log = self._open(first=1)
        self._slices = Slices(self._database, self._log.incarnation)
        self._follow()
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
        if self._previous is not None:
            self._quietly(self._close_previous)
        self._quietly(self._log.close)
        self._quietly(lambda: self._poster.drain(self._log))

    def drain(self) -> None:
        """Post what was recorded so far, and return when it is in the ledger; for those who look at usage right after using.

        Raises:
            StorageError: the database does not answer.
        """
        previous = [] if self._previous is None else [self._previous[0]]
        for log in (*previous, self._log):
            log.flush()
            self._poster.post(log.incarnation)

    @property
    def incarnation(self) -> str:
        """The log that charges go to now."""
        return self._log.incarnation

    def admit(self, project: str, item_cost_hint: int = 1) -> Awaitable[None] | None:
        """Whether a request may go on.

        Args:
            item_cost_hint: the rows that are expected.

        Returns:
            None: it may. Else what to await; that raises QuotaExceeded when the budget has no more.
        """
        if project not in self._slices:
            return None
        return self.reserve(project, item_cost_hint) if not self._covers(project, item_cost_hint) else None

    async def reserve(self, project: str, amount: int) -> None:
        """See to it that a charge of this many rows is covered.

        Raises:
            QuotaExceeded: the budget has no more.
        """
        await self._slices.top_up(project, self._price.amount_micro(amount))

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

        Args:
            event_id: by default one that no other charge has; the same id is never charged twice.

        Returns:
            the ticket for `sent` or `credit`.

        Raises:
            QuotaExceeded: the slice does not cover it: `reserve`, and try once more.
            StorageError: it could not be recorded; the answer must not leave.
            Unavailable: the meter is closed.
        """
        price = self._price
        amount = price.amount_micro(rows)
        slice_ = self._slices.take(project, amount) if project in self._slices else None
        try:
            return self._log.charge(
                self._clock(),
                project,
                key,
                ITEM,
                ITEM,
                model,
                version,
                rows,
                UNIT,
                request_id,
                compute_us,
                price.id,
                amount,
                slice_,
                event_id,
            )
        except BaseException:
            if slice_ is not None:
                self._slices.put_back(project, slice_, amount)
            raise

    def sent(self, ticket: int) -> None:
        """The answer was handed to the operating system."""
        self._log_of(ticket).sent(ticket)
        if not self._flush_due:
            self._flush_soon()

    def credit(self, ticket: int) -> None:
        """The caller was gone before the last byte: what was charged is given back."""
        self._log_of(ticket).credit(ticket)
        if not self._flush_due:
            self._flush_soon()

    def changed(self) -> None:
        """Prices or budgets changed: read them again now."""
        self._wake.set()

    def _covers(self, project: str, rows: int) -> bool:
        return self._slices.covers(project, self._price.amount_micro(rows))

    def _log_of(self, ticket: int) -> UsageLog:
        log = self._log
        if ticket < log.first and self._previous is not None:
            return self._previous[0]
        return log

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the thread does it
        self._flush_due = True
        loop.call_later(_MARKS_WAIT_S, self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self._quietly(self._log.flush)

    def _run(self) -> None:
        duties = [
            _Duty(self._post, 0.0),
            _Duty(self._follow, 0.0),
            _Duty(self._slices.give_back_idle, _SYNC_EVERY_S),
            _Duty(self._adopt, _ADOPT_EVERY_S),
            _Duty(self._slices.renew, _RENEW_EVERY_S),
            _Duty(lambda: self._poster.sweep(_KEPT_S), _SWEEP_EVERY_S),
        ]
        if self.fsync == "interval":
            duties.append(_Duty(lambda: self._log.sync(), _SYNC_EVERY_S))
        while not self._leaving:
            for duty in duties:
                if duty.is_due():
                    self._quietly(duty.work)
            self._wake.wait(_POST_EVERY_S)
            self._wake.clear()

    def _post(self) -> None:
        if self._previous is not None:
            log, until = self._previous
            log.flush()
            self._poster.post(log.incarnation)
            if time.monotonic() > until:
                self._close_previous()
        self._log.flush()
        size = self._log.size_bytes
        if size != self._posted:
            self._poster.post(self._log.incarnation)
            self._posted = size
        if size > self._log_bytes and self._previous is None:
            self._begin_next()

    def _follow(self) -> None:
        """Read prices and budgets where they changed."""
        with self._database.read() as connection:
            now = revision(connection)
            if now != self._revision:
                self._book = prices.read(connection)
        self._price: Price = self._book.at(ITEM, self._clock())  # each time: one that was set by a clock ahead of this one is valid later
        if now != self._revision:
            self._slices.refresh()
            self._revision = now

    def _adopt(self) -> None:
        self._poster.adopt()
        if reservations.any_expired(self._database):
            with self._database.write() as connection:
                reservations.expire(connection)

    def _open(self, first: int) -> UsageLog:
        log = UsageLog(self._folder, first=first, fsync=self.fsync == "always")
        try:
            self._poster.register(log)
        except BaseException:
            log.close()
            raise
        return log

    def _begin_next(self) -> None:
        """Go on in a new log. Charges that are under way still go to the old one, whose sequences end far below the new one's first."""
        old = self._log
        new = self._open(first=old.next + (1 << 20))
        try:
            self._slices.move_to(new.incarnation)
        except BaseException:
            new.close()
            raise
        self._previous = (old, time.monotonic() + _PREVIOUS_S)
        self._log, self._posted = new, 0

    def _close_previous(self) -> None:
        assert self._previous is not None
        log, self._previous = self._previous[0], None
        log.close()
        self._poster.post(log.incarnation)

    def _quietly(self, work: Callable[[], object]) -> None:
        """Do what can be done later as well: a database that is away must not stop the answers, which are in the log."""
        try:
            work()
        except AimassError as error:
            _log.warning("the meter tries again later: %s", error)
        except Exception:  # noqa: BLE001 - a thread that ended would post nothing any more
            _log.exception("the meter tries again later")


class _Duty:
    """Something that the thread does every so often."""

    def __init__(self, work: Callable[[], object], every_s: float) -> None:
        self.work, self._every_s, self._at = work, every_s, 0.0

    def is_due(self) -> bool:
        now = time.monotonic()
        if now < self._at:
            return False
        self._at = now + self._every_s
        return True
