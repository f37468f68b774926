"""One held job, from the claim to its end: a thread that starts the driver, watches it, and writes down what it tells.

1. take up what an earlier runner left: a driver that lives is adopted; one that died is charged for and succeeded by the next
2. each tick: new events, the charge of every whole interval since training began, cancellation, memory
3. the driver has ended: a version, a failure or a cancellation in one transaction; or it died, and the next epoch goes on from the
   newest checkpoint

Every write names owner and epoch (`lease.py`). A runner whose lease is gone lets go, and nothing that it does counts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, select, update

from aimass.billing import ledger
from aimass.core.errors import AimassError, DataError, NotFound, QuotaExceeded, Unavailable, UsageError
from aimass.core.events import Envelope
from aimass.service.jobs import journal
from aimass.service.jobs.attempt import Attempt
from aimass.service.jobs.folder import JobFolder
from aimass.service.jobs.funds import Funds
from aimass.service.jobs.identity import boot_name, host_name
from aimass.service.jobs.lease import Lease, LeaseLost
from aimass.service.jobs.metering import Meter
from aimass.service.jobs.orders import prepare
from aimass.service.jobs.progress import advance
from aimass.service.jobs.publishing import Outcome, publish
from aimass.service.jobs.rooms import Rooms
from aimass.service.jobs.watching import Watch
from aimass.store import tables

logger = logging.getLogger(__name__)

_TICK_S = 0.2
_CLEARING_S = 30.0
_MOST_DEATHS = 3


class _Hopeless(AimassError):
    """What another attempt would meet again, so that the job fails."""


@contextmanager
def _final() -> Iterator[None]:
    try:
        yield
    except (NotFound, UsageError, DataError, QuotaExceeded) as error:
        hopeless = _Hopeless(str(error))
        hopeless.code = error.code
        raise hopeless from error


class Runner:
    """Carries one job out.

    Args:
        rooms: the database and the stores.
        row: the job, as it was claimed.
        owner: who claimed it.
        leave: set when the service leaves.
    """

    def __init__(self, rooms: Rooms, row: Row[Any], owner: str, leave: threading.Event) -> None:
        self.rooms, self.row, self.leave = rooms, row, leave
        self.lease = Lease(rooms.database, row.id, owner, row.epoch)
        self.folder = JobFolder(rooms.home / "jobs" / row.id)
        self.attempt = Attempt(self.folder, (row.driver or {}).get("epoch") or row.epoch)
        self._tail: journal.Tail | None = None
        self._progress: dict[str, Any] | None = row.progress
        self.watch = Watch()
        self.funds = Funds(row.id, row.project_id, max(1, row.config["workers"]))
        self._is_noted, self._lives = False, True

    def run(self) -> None:
        """Until the job has ended, the lease is lost, or the service leaves.

        Raises:
            AimassError: something outside of the job failed, such as the store; another attempt may succeed.
        """
        try:
            self._take_up()
            while not self.leave.is_set() and not self._tick():
                self.leave.wait(_TICK_S if self._lives else 0)  # what a driver told last is read without a pause
        except LeaseLost:
            logger.info("job %s is in other hands", self.row.id)
            self._let_go()
        except _Hopeless as error:
            self._finish("failed", _told_of(error))

    def give_up(self, message: str) -> None:
        """End the job, and its driver before it.

        Raises:
            LeaseLost: another has it.
            Unavailable: its driver does not leave.
        """
        self.row = self.lease.read()
        self._clear_folder()
        self._finish("failed", {"message": message, "code": "internal"})

    # ------------------------------------------------------------------------------------------------- 1. take up, start

    def _take_up(self) -> None:
        launched = (self.row.driver or {}).get("epoch")
        orders = self.folder.orders()
        if launched is None:
            self._launch(self.row.epoch, "started", f"attempt {self.row.epoch} begins")
        elif orders is None or orders["epoch"] != launched:  # it was never started, or on another machine
            self._launch(self.row.epoch + 1, "restarted", "the job begins again on this machine")
        else:
            try:
                with self.lease.write() as connection:
                    self.funds.begin(connection, time.time())
            except QuotaExceeded as error:
                self.watch.condemn(error)

    def _launch(self, epoch: int, kind: str, message: str, usage: list[ledger.Usage] | None = None, **changes: Any) -> None:
        """Start a driver under an epoch of its own, once no older one is left."""
        self._clear_folder()
        with _final():
            orders = prepare(self.rooms, self.folder, self.row, epoch)
        now = time.time()
        driver = {"host": host_name(), "boot": boot_name(), "epoch": epoch}
        values = {"epoch": epoch, "epoch_started": None, "metered_until": None, "driver": driver, "started": self.row.started or now}
        with _final(), self.lease.write(**values, **changes) as connection:
            ledger.post(connection, usage or [])
            self.funds.begin(connection, now)
            journal.note(connection, self.row.id, kind, message, epoch=epoch)
        self.attempt, self.watch, self._is_noted = Attempt(self.folder, epoch), Watch(), False
        self.attempt.start(orders, self.row.cpus)
        self.row = self.lease.read()

    def _clear_folder(self) -> None:
        deadline = time.monotonic() + _CLEARING_S
        while self.folder.is_held():
            if time.monotonic() > deadline:
                raise Unavailable(f"a driver in {self.folder.path} does not leave; end it by hand")
            self.folder.end_holder()
            time.sleep(_TICK_S)

    def _let_go(self) -> None:
        """Another has the job. One on this machine goes on with the driver; one elsewhere has started another."""
        with self.rooms.database.read() as connection:
            row = connection.execute(select(tables.jobs).where(tables.jobs.c.id == self.row.id)).one_or_none()
        if row is None or row.state != "running" or (row.driver or {}).get("host") != host_name():
            self.folder.end_holder()

    # ------------------------------------------------------------------------------------------------------ 2. each tick

    def _tick(self) -> bool:
        """Look once, and return whether the job has ended."""
        self.row = self.lease.read()
        lives = self._lives = self.attempt.lives()  # before what it tells is read, so that nothing is told after it
        events, result = self._new_events(), self.attempt.result
        usage, reached = self._charge(last=False)
        if events or usage:
            with self.lease.write(**{**self._told(events), "metered_until": reached, **self._began(events)}) as connection:
                journal.add(connection, self.row.id, events)
                self._pay(connection, usage)
        if not lives and not events:
            return self._end(result) if result is not None else self._bury()
        if lives:
            self._watch(has_result=result is not None)
        return False

    def _new_events(self) -> list[Envelope]:
        if self._tail is None:
            run = self.folder.run()
            if run is None:
                return []
            with self.rooms.database.read() as connection:
                self._tail = journal.Tail(run, journal.count(connection, self.row.id, run.name))
        return self._tail.read()

    def _told(self, events: list[Envelope]) -> dict[str, Any]:
        if not events:
            return {}
        for event in events:
            self._progress = advance(self._progress, event)
        return {"progress": self._progress, "run_id": events[-1].run}

    def _began(self, events: list[Envelope]) -> dict[str, Any]:
        """Where the meter begins: at the driver's first row, once it has seen that settings, data and memory allow one."""
        if self.row.metered_until is not None:
            return {}
        launched = float((self.folder.orders() or {}).get("written", 0.0))  # what an earlier driver told late begins nothing
        times = [event.time for event in events if event.type == "run_started" and event.time >= launched]
        return {"epoch_started": times[0], "metered_until": times[0]} if times else {}

    def _charge(self, *, last: bool) -> tuple[list[ledger.Usage], float | None]:
        row = self.row
        if row.metered_until is None:
            return [], None  # it has not begun to train
        meter = Meter(
            job=row.id,
            project=row.project_id,
            model=row.model,
            epoch=row.epoch,
            epoch_started=row.epoch_started,
            workers=self.funds.workers,
            reservation=self.funds.reservation,
        )
        return meter.charge(row.metered_until, max(row.metered_until, self.attempt.lived_until()), last=last)

    def _pay(self, connection: Connection, usage: list[ledger.Usage]) -> None:
        ledger.post(connection, usage)
        try:
            self.funds.renew(connection, usage, time.time())
        except QuotaExceeded as error:
            self.watch.condemn(error)

    def _watch(self, *, has_result: bool) -> None:
        driver = self.attempt.process
        if driver is None:
            return
        if not self._is_noted:
            with self.lease.write(driver={**driver.to_json(), "epoch": self.attempt.epoch}):
                self._is_noted = True
        self.watch.look(driver, self.attempt.holder, self.row, has_result=has_result)

    # ---------------------------------------------------------------------------------------------------------- 3. ends

    def _end(self, result: dict[str, Any]) -> bool:
        if result["state"] == "cancelled" and self.watch.verdict is not None:
            return self._finish("failed", _told_of(self.watch.verdict))
        if result["state"] == "cancelled" and not self.row.cancel_requested:
            return self._requeue()
        if result["state"] == "succeeded":
            with _final():
                outcome = Outcome.of(self.folder, self.row, result, self.rooms.blobs)
            return self._finish("succeeded", None, result["metrics"], outcome)
        error = {"message": result["message"], "code": result["code"]}
        return self._finish(result["state"], error if result["state"] == "failed" else None)

    def _finish(
        self, state: str, error: dict[str, Any] | None, metrics: dict[str, Any] | None = None, outcome: Outcome | None = None
    ) -> bool:
        """The job's end: state, version and the last usage, all or nothing."""
        usage, reached = self._charge(last=True)
        ended: dict[str, Any] = {"state": state, "error": error, "metrics": metrics, "ended": time.time(), "metered_until": reached}
        with self.lease.write(**ended) as connection:
            ledger.post(connection, usage)
            self.funds.end(connection)
            told: dict[str, Any] = {} if error is None else {"error": error}
            if outcome is not None:
                version = publish(connection, self.rooms.registry, outcome)
                told = {"model": version.model, "version": version.number}
            journal.note(connection, self.row.id, state, _last_words(state, told), **told)
            row = tables.jobs.c
            released = {"owner": None, "lease_until": None, **({"version_id": version.id} if outcome is not None else {})}
            connection.execute(update(tables.jobs).where(row.id == self.row.id).values(**released))
        if outcome is not None:
            self.folder.thin()
        return True

    def _bury(self) -> bool:
        """The driver is dead and has left no result."""
        if self.watch.verdict is not None:
            return self._finish("failed", _told_of(self.watch.verdict))
        if self.row.cancel_requested:
            return self._finish("cancelled", None)
        orders = self.folder.orders() or {}
        has_moved = self.folder.newest_step() > orders.get("from_step", -1)
        deaths = (0 if has_moved else self.row.deaths) + self.attempt.has_lived
        how = self.attempt.how()
        if deaths >= _MOST_DEATHS:
            lines = self.folder.log_lines()
            message = f"its process died {deaths} times in a row{how} without a new checkpoint. The last lines that it printed:\n{lines}"
            return self._finish("failed", {"message": message, "code": "driver_died"})
        usage, _ = self._charge(last=True)
        self._launch(self.row.epoch + 1, "restarted", f"the job's process died{how}; another goes on", usage, deaths=deaths)
        return False

    def _requeue(self) -> bool:
        """The driver was stopped, and nobody had asked for that but the machine: the job goes on later."""
        usage, reached = self._charge(last=True)
        released: dict[str, Any] = {"state": "queued", "owner": None, "lease_until": None, "driver": None, "metered_until": reached}
        with self.lease.write(**released) as connection:
            ledger.post(connection, usage)
            self.funds.end(connection)
            journal.note(connection, self.row.id, "queued", "its process was stopped from outside; it will go on from its checkpoint")
        return True


def _told_of(error: AimassError) -> dict[str, Any]:
    return {"message": str(error), "code": error.code}


def _last_words(state: str, told: dict[str, Any]) -> str:
    if state == "succeeded":
        return f"version {told['version']} of {told['model']} is in the registry"
    return str(told["error"]["message"]) if "error" in told else f"the job is {state}"
