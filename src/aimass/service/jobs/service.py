"""The jobs of a service: made, listed, cancelled, resumed, and carried out by a scheduler's thread and a runner's thread each."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Row

from aimass.core.errors import AimassError, StorageError, Unavailable
from aimass.service.jobs import process, requests
from aimass.service.jobs.folder import JobFolder
from aimass.service.jobs.identity import Identity
from aimass.service.jobs.lease import LEASE_S
from aimass.service.jobs.limits import Limits
from aimass.service.jobs.queue import Queue
from aimass.service.jobs.rooms import Rooms
from aimass.service.jobs.runner import Runner
from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.paging import Page
from aimass.store.registry import Registry

logger = logging.getLogger(__name__)

_TICK_S = 0.25
_RENEW_S = LEASE_S / 4
_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0
_MOST_FAULTS = 5
_LEAVING_S = 20.0
_OUTSIDE = (StorageError, Unavailable, OSError, MemoryError)
"""What a job can do nothing about, and what may be over the next time."""


class Jobs:
    """Training jobs, for the REST API and whoever starts a service.

    Args:
        database: where they are kept.
        blobs: the bytes of data sets and models.
        registry: where the results go.
        home: under it, `jobs/` holds a folder for each job.
        limits: what all jobs together may take of this machine.
        service_id: a label for this service's leases.
    """

    def __init__(self, database: Database, blobs: Blobs, registry: Registry, home: Path, limits: Limits, service_id: str) -> None:
        self.database, self.limits, self.home = database, limits, Path(home)
        self.owner = Identity.of(os.getpid()).owner(service_id)
        self._queue = Queue(database, blobs, limits, self.owner)
        self._rooms = Rooms(database=database, blobs=blobs, registry=registry, home=self.home)
        self._runners: dict[str, threading.Thread] = {}
        self._paused: dict[str, float] = {}
        self._failures: dict[str, int] = {}  # how often in a row a job could not be carried on; it waits longer each time
        self._faults: dict[str, int] = {}  # and how often of these the reason was not outside of it
        self._wake, self._leave, self._stop_runners = threading.Event(), threading.Event(), threading.Event()
        self._ended = threading.Event()
        self._scheduler = threading.Thread(target=self._schedule, name="jobs", daemon=True)
        self._renewer = threading.Thread(target=self._renew, name="leases of jobs", daemon=True)

    # ------------------------------------------------------------------------------------------------------ what is asked

    def create(
        self,
        project: str,
        *,
        dataset: str,
        model: str | None = None,
        config: dict[str, Any] | None = None,
        cpus: float | None = None,
        memory: str | int | None = None,
    ) -> dict[str, Any]:
        """Queue a training job.

        Args:
            project: the project's id.
            dataset: the data set's id.
            model: the name under which the registry keeps the result; by default the data set's.
            config: `TrainConfig` fields, and the short names that `aimass.train` knows. `start_from` is a version of the project's
                registry: `NAME`, `NAME@3` or `NAME@ALIAS`.
            cpus, memory: what it may take; by default a processor a worker, and 1 GB and 0.5 GB a worker.

        Raises:
            NotFound: there is no such data set in this project, or no such version of a model.
            UsageError: a setting is off, or it could never fit.
            DataError: the data set cannot be trained on like this.
        """
        wanted = requests.Wanted(dataset=dataset, model=model, config=config or {}, cpus=cpus, memory=memory)
        job = requests.create(self._rooms, self.limits, project, wanted)
        self._wake.set()
        return job

    def get(self, project: str, job: str) -> dict[str, Any]:
        """One job.

        Raises:
            NotFound: this project has none with that id.
        """
        return requests.get(self.database, project, job)

    def list(self, project: str, page: Page | None = None, status: str | None = None) -> dict[str, Any]:
        """A page of jobs, the newest first; those with a status, if one is given."""
        return requests.page_of(self.database, project, page or Page(), status)

    def cancel(self, project: str, job: str) -> dict[str, Any]:
        """Stop a job: a queued one at once, a running one in order, with a checkpoint.

        Raises:
            NotFound: there is no such job.
            Conflict: it has ended.
        """
        return requests.cancel(self.database, project, job)

    def resume(self, project: str, job: str, config: dict[str, Any] | None = None) -> dict[str, Any]:
        """Queue a failed or cancelled job again; it goes on from its newest checkpoint.

        Args:
            config: settings to change, such as `{"epochs": 20}`.

        Raises:
            NotFound: there is no such job.
            Conflict: it has not ended, or it has succeeded.
            UsageError: a setting is off, or one that a run keeps.
        """
        resumed = requests.resume(self.database, self.limits, project, job, config or {})
        self._wake.set()
        return resumed

    def events(self, project: str, job: str, after: int = -1, limit: int = 100) -> dict[str, Any]:
        """A page of a job's events, in their order.

        Raises:
            NotFound: there is no such job.
        """
        return requests.events(self.database, project, job, after, limit)

    def events_after(self, project: str, job: str, after: int, limit: int = 500) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:  # type: ignore[valid-type]
        """What is new since `after`; and the job, once it has ended and there is nothing behind these events."""
        return requests.events_after(self.database, project, job, after, limit)

    # ------------------------------------------------------------------------------------------------------- what is done

    def start(self) -> None:
        """Begin to carry jobs out, in threads of their own."""
        self._scheduler.start()
        self._renewer.start()

    def close(self, *, stop_drivers: bool = False) -> None:
        """Leave. Drivers go on, and the next service adopts them at once; with `stop_drivers` they write a checkpoint and end, and
        their jobs are queued."""
        self._leave.set()
        self._wake.set()
        if self._scheduler.is_alive():
            self._scheduler.join()
        if stop_drivers:
            self._stop_drivers()
        self._stop_runners.set()
        for thread in list(self._runners.values()):
            thread.join()
        self._ended.set()
        if self._renewer.is_alive():
            self._renewer.join()
        self._queue.release(list(self._runners))
        self._runners.clear()

    def _stop_drivers(self) -> None:
        asked: set[Identity] = set()
        deadline = time.monotonic() + _LEAVING_S
        while any(thread.is_alive() for thread in self._runners.values()):
            is_late = time.monotonic() > deadline
            for job in self._runners:
                folder = JobFolder(self.home / "jobs" / job)
                holder = folder.holder()
                if holder is not None and folder.is_held() and (is_late or holder.process not in asked):  # one may be starting yet
                    (process.kill if is_late else process.ask_to_stop)(holder.process.pid, holder.process.started)
                    asked.add(holder.process)
            if is_late:
                return
            time.sleep(0.05)

    def _sweep(self) -> None:
        """End drivers that nobody waits for: their jobs have ended, or run on another machine."""
        for path in (self.home / "jobs").glob("job-*"):
            folder = JobFolder(path)
            if folder.is_held() and not self._queue.is_run_here(path.name):
                folder.end_holder()

    def _schedule(self) -> None:
        with contextlib.suppress(AimassError, OSError):
            self._sweep()
        while not self._leave.is_set():
            try:
                self._look()
            except Exception:
                logger.exception("the scheduler of jobs could not look; it looks again")
                self._leave.wait(1.0)
            self._wake.wait(_TICK_S)
            self._wake.clear()

    def _renew(self) -> None:
        """Keep the leases until the last runner has left, however long the scheduler waits for the store meanwhile."""
        while not self._ended.wait(_RENEW_S):
            try:
                self._queue.renew([job for job, runner in list(self._runners.items()) if runner.is_alive()])
            except Exception:
                logger.exception("the leases of jobs could not be renewed; they are tried again")

    def _look(self) -> None:
        """Let new jobs in, and claim what is left alone and what fits."""
        for job in [job for job, thread in self._runners.items() if not thread.is_alive()]:
            del self._runners[job]
        self._queue.validate()
        for row in self._queue.adopt({*self._runners, *self._still_paused()}):
            self._begin(row)
        while (claimed := self._queue.claim()) is not None:
            self._begin(claimed)

    def _still_paused(self) -> set[str]:
        for job, until in list(self._paused.items()):  # the runners' threads add to it
            if until < time.monotonic():
                self._paused.pop(job, None)
        return set(self._paused)

    def _begin(self, row: Row[Any]) -> None:
        thread = threading.Thread(target=self._carry, args=(row,), name=row.id, daemon=True)
        thread.start()
        self._runners[row.id] = thread

    def _carry(self, row: Row[Any]) -> None:
        """Run a runner. A job that it cannot carry on is given back, and taken up again a little later; it fails where that happens
        again and again for a reason that is not outside of it."""
        runner, began = Runner(self._rooms, row, self.owner, self._stop_runners), time.monotonic()
        try:
            runner.run()
            self._forget(row.id)
        except Exception as error:
            logger.exception("job %s could not be carried on; it is tried again", row.id)
            if time.monotonic() - began > _LONGEST_PAUSE_S:
                self._forget(row.id)
            try:
                self._put_off(runner, error)
            except Exception:
                logger.exception("job %s could not be given back; its lease ends", row.id)
        self._wake.set()

    def _put_off(self, runner: Runner, error: Exception) -> None:
        job = runner.row.id
        failures = self._failures[job] = self._failures.get(job, 0) + 1
        faults = self._faults[job] = self._faults.get(job, 0) + (not isinstance(error, _OUTSIDE))
        self._paused[job] = time.monotonic() + min(_LONGEST_PAUSE_S, _PAUSE_S * 2 ** min(failures - 1, 10))
        try:
            if faults >= _MOST_FAULTS:
                runner.give_up(
                    f"the service failed {faults} times in a row to carry it on ({type(error).__name__}), and its log says where; "
                    "when that is mended, resume the job"
                )
                self._forget(job)
        finally:
            self._queue.release([job])

    def _forget(self, job: str) -> None:
        """It goes well."""
        self._failures.pop(job, None)
        self._faults.pop(job, None)
