"""One held job, from the claim to its end: a thread that starts the driver, watches it, and writes down what it tells.

1. take up what an earlier runner left: a driver that lives is adopted; one that died is charged for and succeeded by the next
2. each tick: new events, the charge of every whole interval, cancellation, memory
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, update

from aimass.billing import ledger
from aimass.core.errors import AimassError, DataError, NotFound, QuotaExceeded, TrainingError, UsageError
from aimass.core.events import Envelope
from aimass.service.jobs import journal, process
from aimass.service.jobs.folder import Holder, JobFolder
from aimass.service.jobs.identity import Identity, boot_name, host_name
from aimass.service.jobs.lease import Lease, LeaseLost
from aimass.service.jobs.metering import Meter
from aimass.service.jobs.orders import prepare
from aimass.service.jobs.progress import advance
from aimass.service.jobs.publishing import Outcome, publish
from aimass.store import tables
from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.registry import Registry

logger = logging.getLogger(__name__)

_TICK_S = 0.2
_MEMORY_S = 1.0
_STARTING_S = 5.0
_LEAVING_S = 15.0
_PATIENCE_S = 20.0
_SILENT_S = 300.0
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


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """What a runner works with."""

    database: Database
    blobs: Blobs
    registry: Registry
    home: Path


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
        self._child: int | None = None
        self._status: int | None = None
        self._tail: journal.Tail | None = None
        self._progress: dict[str, Any] | None = row.progress
        self._asked: float | None = None
        self._result_seen: float | None = None
        self._verdict: AimassError | None = None
        self._looked = 0.0
        self._is_noted = False

    def run(self) -> None:
        """Until the job has ended, the lease is lost, or the service leaves.

        Raises:
            AimassError: something outside of the job failed, such as the store; another attempt may succeed.
        """
        try:
            self._take_up()
            while not self.leave.is_set() and not self._tick():
                self.leave.wait(_TICK_S)
        except LeaseLost:
            logger.info("job %s is in other hands", self.row.id)
        except _Hopeless as error:
            self._finish("failed", {"message": str(error), "code": error.code})

    # ------------------------------------------------------------------------------------------------- 1. take up, start

    @property
    def _launched(self) -> int | None:
        """The epoch under which the present driver was started; None where none was, on this machine."""
        driver = self.row.driver or {}
        orders = self.folder.orders()
        epoch = driver.get("epoch")
        return epoch if orders is not None and orders["epoch"] == epoch else None

    def _take_up(self) -> None:
        epoch = (self.row.driver or {}).get("epoch")
        if epoch is None:
            self._launch(self.row.epoch, "started", f"attempt {self.row.epoch} begins")
        elif self._launched is None:
            self._launch(self.row.epoch + 1, "restarted", "the job begins again on this machine")

    def _launch(self, epoch: int, kind: str, message: str, usage: list[ledger.Usage] | None = None, **changes: Any) -> None:
        """Start a driver under an epoch of its own, once no older one is left."""
        self._clear_folder()
        with _final():
            orders = prepare(self.rooms.database, self.rooms.blobs, self.folder, self.row, epoch)
        now = time.time()
        driver = {"host": host_name(), "boot": boot_name(), "epoch": epoch}
        values = {"epoch": epoch, "epoch_started": now, "metered_until": now, "driver": driver, "started": self.row.started or now}
        with self.lease.write(**values, **changes) as connection:
            ledger.post(connection, usage or [])
            journal.note(connection, self.row.id, kind, message, epoch=epoch)
        self.folder.write_orders(orders)
        self._child = process.start(self.folder.path, epoch, self.row.cpus, self.folder.log)
        self._status, self._asked, self._result_seen, self._is_noted = None, None, None, False
        self.row = self.lease.read()

    def _clear_folder(self) -> None:
        while self.folder.is_held():
            holder = self.folder.holder()
            if holder is not None and holder.process.is_here:
                process.kill(holder.process.pid, holder.process.started)
            time.sleep(_TICK_S)

    # ------------------------------------------------------------------------------------------------------ 2. each tick

    def _tick(self) -> bool:
        """Look once, and return whether the job has ended."""
        self.row = self.lease.read()
        lives = self._lives()
        events = self._new_events()
        result = self.folder.result(self.row.driver["epoch"])
        usage, reached = self._charge(last=False)
        if events or usage:
            with self.lease.write(**self._told(events), metered_until=reached) as connection:
                journal.add(connection, self.row.id, events)
                ledger.post(connection, usage)
        if not lives:
            return self._end(result) if result is not None else self._bury()
        self._watch(result)
        return False

    def _lives(self) -> bool:
        if self._child is not None:
            self._status = process.reap(self._child)
            if self._status is not None:
                self._child = None
            return self._status is None
        if self.folder.is_held():
            return True
        orders, holder = self.folder.orders() or {}, self._holder()
        return self._status is None and holder is None and time.time() - orders.get("written", 0.0) < _STARTING_S

    def _holder(self) -> Holder | None:
        """The present driver, once it has taken the folder."""
        holder = self.folder.holder()
        return holder if holder is not None and holder.epoch == self.row.driver["epoch"] else None

    def _process(self) -> Identity | None:
        holder = self._holder()
        if holder is not None:
            return holder.process
        return Identity.of(self._child) if self._child is not None else None

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

    def _charge(self, *, last: bool) -> tuple[list[ledger.Usage], float]:
        row = self.row
        meter = Meter(
            job=row.id,
            project=row.project_id,
            model=row.model,
            epoch=row.epoch,
            epoch_started=row.epoch_started,
            workers=max(1, row.config["workers"]),
        )
        return meter.charge(row.metered_until, max(row.metered_until, self._lived_until()), last=last)

    def _lived_until(self) -> float:
        """Up to when the present driver is known to have worked."""
        result, holder = self.folder.result(self.row.driver["epoch"]), self._holder()
        if result is not None:
            return float(result["ended"])
        if self._child is not None or (holder is not None and self.folder.is_held()):
            return time.time()
        return holder.seen if holder is not None else 0.0

    def _watch(self, result: dict[str, Any] | None) -> None:
        """Stop a driver that was asked to, that takes too much memory, or that has said its last and does not leave."""
        now, driver = time.monotonic(), self._process()
        if driver is None:
            return
        if not self._is_noted:
            with self.lease.write(driver={**driver.to_json(), "epoch": self.row.driver["epoch"]}):
                self._is_noted = True
        if result is not None:
            self._result_seen = self._result_seen or now
            if now - self._result_seen > _LEAVING_S:
                process.kill(driver.pid, driver.started)
        elif self.row.cancel_requested and self._asked is None:
            self._asked = now
            process.ask_to_stop(driver.pid, driver.started)
        elif self._asked is not None and now - self._asked > _PATIENCE_S:
            process.kill(driver.pid, driver.started)
        elif now - self._looked >= _MEMORY_S:
            self._looked = now
            self._watch_health(driver)

    def _watch_health(self, driver: Identity) -> None:
        limit, holder = self.row.memory_bytes, self._holder()
        used = process.memory_bytes(driver.pid, limit)
        if used > limit:
            self._verdict = TrainingError(
                f"the job took {used / 1e9:.2f} GB of memory, and its limit is {limit / 1e9:.2f} GB; create it again with a higher "
                "memory=, or with fewer workers, a smaller batch_size or a smaller model"
            )
            self._verdict.code = "memory_limit"
            process.kill(driver.pid, driver.started)
        elif holder is not None and time.time() - holder.seen > _SILENT_S:
            process.kill(driver.pid, driver.started)

    # ---------------------------------------------------------------------------------------------------------- 3. ends

    def _end(self, result: dict[str, Any]) -> bool:
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
        """The job's end: state, version, the last events and the last usage, all or nothing."""
        events = self._new_events()
        usage, reached = self._charge(last=True)
        ended: dict[str, Any] = {"state": state, "error": error, "metrics": metrics, "ended": time.time(), "metered_until": reached}
        with self.lease.write(**ended, **self._told(events)) as connection:
            journal.add(connection, self.row.id, events)
            ledger.post(connection, usage)
            told: dict[str, Any] = {} if error is None else {"error": error}
            if outcome is not None:
                version = publish(connection, self.rooms.registry, outcome)
                told = {"model": version.model, "version": version.number}
            journal.note(connection, self.row.id, state, _last_words(state, told), **told)
            row = tables.jobs.c
            released = {"owner": None, "lease_until": None, **({"version_id": version.id} if outcome is not None else {})}
            connection.execute(update(tables.jobs).where(row.id == self.row.id).values(**released))
        return True

    def _bury(self) -> bool:
        """The driver is dead and has left no result."""
        if self._verdict is not None:
            return self._finish("failed", {"message": str(self._verdict), "code": self._verdict.code})
        if self.row.cancel_requested:
            return self._finish("cancelled", None)
        orders = self.folder.orders() or {}
        has_moved = self.folder.newest_step() > orders.get("from_step", -1)
        deaths = 1 if has_moved else self.row.deaths + 1
        how = f" ({_status(self._status)})" if self._status is not None else ""
        if deaths >= _MOST_DEATHS:
            lines = self.folder.log_lines()
            message = f"its process died {deaths} times in a row{how} without a new checkpoint. The last lines that it printed:\n{lines}"
            return self._finish("failed", {"message": message, "code": "driver_died"})
        events = self._new_events()
        if events:
            with self.lease.write(**self._told(events)) as connection:
                journal.add(connection, self.row.id, events)
        usage, _ = self._charge(last=True)
        self._launch(self.row.epoch + 1, "restarted", f"the job's process died{how}; another goes on", usage, deaths=deaths)
        return False

    def _requeue(self) -> bool:
        """The driver was stopped, and nobody had asked for that but the machine: the job goes on later."""
        events = self._new_events()
        usage, reached = self._charge(last=True)
        released: dict[str, Any] = {"state": "queued", "owner": None, "lease_until": None, "driver": None, "metered_until": reached}
        with self.lease.write(**released, **self._told(events)) as connection:
            journal.add(connection, self.row.id, events)
            ledger.post(connection, usage)
            journal.note(connection, self.row.id, "queued", "its process was stopped from outside; it will go on from its checkpoint")
        return True


def _status(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def _last_words(state: str, told: dict[str, Any]) -> str:
    if state == "succeeded":
        return f"version {told['version']} of {told['model']} is in the registry"
    return str(told["error"]["message"]) if "error" in told else f"the job is {state}"
