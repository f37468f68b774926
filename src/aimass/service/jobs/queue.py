"""Who works on what: jobs are claimed in the order in which they were made, while processors and memory last.

All services of one database on one machine share what the machine has: what counts is the rows of the jobs that run on it, whoever
runs them. The job at the head waits until it fits, and nobody overtakes it.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, select, text, update

from aimass.core.errors import AimassError
from aimass.service.jobs import journal
from aimass.service.jobs.identity import Identity, boot_name, host_name
from aimass.service.jobs.lease import LEASE_S
from aimass.service.jobs.limits import Limits
from aimass.store import tables
from aimass.store.blobs import Blobs
from aimass.store.database import Database

VALIDATING, QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "validating_files", "queued", "running", "succeeded", "failed", "cancelled"
ENDED = (SUCCEEDED, FAILED, CANCELLED)


class Queue:
    """Claims jobs for one service.

    Args:
        database: where the jobs are.
        blobs: where their data is.
        limits: what jobs may take of this machine.
        owner: who claims.
    """

    def __init__(self, database: Database, blobs: Blobs, limits: Limits, owner: str) -> None:
        self.database, self.blobs, self.limits, self.owner = database, blobs, limits, owner

    def validate(self) -> None:
        """Let in the new jobs whose data is whole."""
        row = tables.jobs.c
        data = select(row.id, tables.datasets.c.sha256).join(tables.datasets, tables.datasets.c.id == row.dataset_id)
        with self.database.read() as connection:
            new = connection.execute(data.where(row.state == VALIDATING).order_by(row.id)).all()
        for job in new:
            error = self._problem(job.sha256)
            state = QUEUED if error is None else FAILED
            changes = {"state": state, "error": error, "ended": None if error is None else time.time()}
            with self.database.write() as connection:
                done = connection.execute(update(tables.jobs).where(row.id == job.id, row.state == VALIDATING).values(**changes))
                if done.rowcount:
                    message = "it waits for its turn" if error is None else error["message"]
                    journal.note(connection, job.id, state, message)

    def _problem(self, sha256: str | None) -> dict[str, Any] | None:
        try:
            if sha256 is not None:
                self.blobs.size(sha256)
        except AimassError as error:
            return {"message": str(error), "code": error.code}
        return None

    def adopt(self, held: Collection[str]) -> list[Row[Any]]:
        """Claim running jobs whose runner is gone, at once where that is known, or else when its lease is over."""
        with self.database.read() as connection:
            running = connection.execute(select(tables.jobs).where(tables.jobs.c.state == RUNNING).order_by(tables.jobs.c.id)).all()
        left = [row for row in running if row.id not in held and self._is_left(row)]
        return [claimed for row in left if (claimed := self._adopt(row)) is not None]

    def _is_left(self, row: Row[Any]) -> bool:
        if row.owner is None:
            return True
        owner = Identity.read(row.owner)
        return (owner is not None and owner.is_gone) or (row.lease_until or 0.0) < time.time()

    def _adopt(self, row: Row[Any]) -> Row[Any] | None:
        job = tables.jobs.c
        with self.database.write() as connection:
            if not _is_here(row) and not self._fits(connection, row):
                return None
            values = self._holding(row.epoch + 1) | {"epoch_started": job.metered_until}
            owned = job.owner == row.owner if row.owner is not None else job.owner.is_(None)
            mine = (job.id == row.id, job.epoch == row.epoch, job.state == RUNNING, owned)
            return connection.execute(update(tables.jobs).where(*mine).values(**values).returning(*tables.jobs.c)).one_or_none()

    def claim(self) -> Row[Any] | None:
        """Claim the oldest queued job, if it fits beside what runs."""
        job, limits = tables.jobs.c, self.limits
        possible = (job.state == QUEUED, job.cpus <= limits.cpus, job.memory_bytes <= limits.memory_bytes)
        head = select(tables.jobs).where(*possible).order_by(job.id).limit(1)
        with self.database.read() as connection:
            if connection.execute(head).one_or_none() is None:
                return None
        with self.database.write() as connection:
            row = connection.execute(head.with_for_update()).one_or_none()
            if row is None or not self._fits(connection, row):
                return None
            driver = {"host": host_name(), "boot": boot_name(), "epoch": None}
            values = self._holding(row.epoch + 1) | {"state": RUNNING, "driver": driver, "deaths": 0, "error": None}
            mine = (job.id == row.id, job.state == QUEUED)
            return connection.execute(update(tables.jobs).where(*mine).values(**values).returning(*tables.jobs.c)).one_or_none()

    def renew(self, held: Collection[str]) -> None:
        """Keep the leases of jobs that are held."""
        if held:
            job = tables.jobs.c
            mine = (job.id.in_(list(held)), job.owner == self.owner, job.state == RUNNING)
            with self.database.write() as connection:
                connection.execute(update(tables.jobs).where(*mine).values(lease_until=time.time() + LEASE_S))

    def release(self, held: Collection[str]) -> None:
        """Give jobs back, so that another service adopts them at once."""
        if held:
            job = tables.jobs.c
            mine = (job.id.in_(list(held)), job.owner == self.owner, job.state == RUNNING)
            with self.database.write() as connection:
                connection.execute(update(tables.jobs).where(*mine).values(owner=None, lease_until=None))

    def is_run_here(self, job: str) -> bool:
        """Whether a job's driver belongs on this machine."""
        with self.database.read() as connection:
            row = connection.execute(select(tables.jobs).where(tables.jobs.c.id == job)).one_or_none()
        return row is not None and row.state == RUNNING and _is_here(row)

    def _holding(self, epoch: int) -> dict[str, Any]:
        return {"owner": self.owner, "epoch": epoch, "lease_until": time.time() + LEASE_S}

    def _fits(self, connection: Connection, row: Row[Any]) -> bool:
        """Whether there is room for a job beside those that run on this machine. Two services must not see the same room."""
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": zlib.crc32(host_name().encode())})
        running = connection.execute(select(tables.jobs).where(tables.jobs.c.state == RUNNING)).all()
        here = [other for other in running if _is_here(other) and other.id != row.id]
        cpus, memory_bytes = sum(other.cpus for other in here), sum(other.memory_bytes for other in here)
        return bool(cpus + row.cpus <= self.limits.cpus and memory_bytes + row.memory_bytes <= self.limits.memory_bytes)


def _is_here(row: Row[Any]) -> bool:
    """Whether a running job takes room on this machine."""
    return (row.driver or {}).get("host") == host_name()
