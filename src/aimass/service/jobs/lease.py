"""The right to write about one job: every write names its owner and epoch, and without them nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, select, update

from aimass.store import tables
from aimass.store.database import Database

LEASE_S = 15.0
"""How long a lease lasts that nobody renews."""


class LeaseLost(Exception):
    """Another runner has the job; whoever meets this lets go of it."""


class Lease:
    """One runner's hold on one job.

    Args:
        database: where the job is.
        job: its id.
        owner: who holds it.
        epoch: the one that it was claimed under.
    """

    def __init__(self, database: Database, job: str, owner: str, epoch: int) -> None:
        self.database, self.job, self.owner, self.epoch = database, job, owner, epoch

    @contextmanager
    def write(self, **changes: Any) -> Iterator[Connection]:
        """One transaction that changes the job's row first, under the lease.

        Raises:
            LeaseLost: another holds the job, and nothing was written.
        """
        row = tables.jobs.c
        with self.database.write() as connection:
            mine = (row.id == self.job, row.owner == self.owner, row.epoch == self.epoch)
            changed = connection.execute(update(tables.jobs).where(*mine).values(**(changes or {"owner": self.owner})))
            if changed.rowcount != 1:
                raise LeaseLost(self.job)
            yield connection
        self.epoch = changes.get("epoch", self.epoch)

    def read(self) -> Row[Any]:
        """The job's row.

        Raises:
            LeaseLost: another holds the job.
        """
        with self.database.read() as connection:
            row = connection.execute(select(tables.jobs).where(tables.jobs.c.id == self.job)).one_or_none()
        if row is None or (row.owner, row.epoch) != (self.owner, self.epoch):
            raise LeaseLost(self.job)
        return row
