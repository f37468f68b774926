"""The poster: moves usage logs into the ledger, each frame once.

The number of bytes that are in the ledger stands in `usage_logs`, and moves in the transaction that posts them. A kill at any
moment leaves both or neither, and the next poster goes on from there.

A log whose writer has died is adopted by any poster that can open it: the lock on the file tells. When all of it is posted,
charges that were neither marked as sent nor credited are in doubt: they stay charged, and are listed.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import SQLAlchemyError

from aimass.billing import ledger, reservations
from aimass.billing.record import Charge, Closed, Credit, Damaged, Record, Sent, UsageLog, read_log
from aimass.core.errors import AimassError, StorageError
from aimass.store import tables
from aimass.store.database import Database

_EVENTS_AT_ONCE = 2_000
_SWEPT_S = 30 * 86_400.0  # logs that were closed before that were deleted by an earlier sweep
_log = logging.getLogger(__name__)


@dataclass
class _Batch:
    """Records that are posted in one transaction."""

    incarnation: str
    unmarked: dict[str, str]
    charges: list[ledger.Usage] = field(default_factory=list)
    credits: list[str] = field(default_factory=list)
    position: int = 0
    closed: bool = False

    def add(self, record: Record, position: int) -> None:
        self.position = position
        if isinstance(record, Charge):
            self.charges.append(_usage(record))
            self.unmarked[str(record.sequence)] = record.id
        elif isinstance(record, Sent | Credit):
            marked = [self.unmarked.pop(str(sequence), None) for sequence in record.sequences]
            if isinstance(record, Credit):
                self.credits += [event for event in marked if event is not None]
        elif isinstance(record, Closed):
            self.closed = True


class Poster:
    """Posts what gateways of this host recorded.

    Args:
        home: where logs lie that are not where they were when they were opened.
    """

    def __init__(self, database: Database, home: Path) -> None:
        self._database, self._folder = database, home / "usage"
        self.damaged: list[tuple[Path, Damaged]] = []

    def register(self, log: UsageLog) -> None:
        """Make a log known, before its first charge, so that it is posted whatever happens to its writer."""
        process = psutil.Process()
        owner = {"host": platform.node(), "boot": psutil.boot_time(), "pid": process.pid, "started": process.create_time()}
        row = {"incarnation": log.incarnation, "path": str(log.path.resolve()), "position": 0, "unmarked": {}, "opened": time.time()}
        with self._database.write() as connection:
            connection.execute(tables.usage_logs.insert().values(**row, owner=owner))

    def post(self, incarnation: str, *, ended: bool = False) -> int:
        """Post what a log holds now beyond its position; what is added meanwhile is for the next call.

        Args:
            ended: its writer is gone: nothing will be added to it.

        Returns:
            how many events were charged.

        Raises:
            StorageError: the log or the database does not answer; nothing is lost, and it can be posted later.
        """
        posted, until = 0, None if ended else self._written(incarnation)
        while (more := self._post_batch(incarnation, until)) is not None:
            posted += more
        return posted

    def _written(self, incarnation: str) -> int:
        """The bytes that a log holds now."""
        row = tables.usage_logs.c
        with self._database.read() as connection:
            found = connection.execute(select(row.path, row.closed).where(row.incarnation == incarnation)).one()
        return 0 if found.closed is not None else _size(self._find(found.path))

    def adopt(self) -> list[str]:
        """Post and close the logs whose writers are gone.

        Returns:
            their incarnations.
        """
        row, adopted = tables.usage_logs.c, []
        with self._database.read() as connection:
            known = connection.execute(select(row.incarnation, row.path).where(row.closed.is_(None)).order_by(row.incarnation)).all()
        for incarnation, path in known:
            with _writer_gone(self._find(path)) as gone:
                if gone:
                    try:
                        self.post(incarnation, ended=True)
                        adopted.append(incarnation)
                    except (AimassError, SQLAlchemyError) as error:  # the others are adopted all the same
                        _log.warning("the usage log %s is adopted later: %s", incarnation, error)
        return adopted

    def sweep(self, older_than_s: float) -> int:
        """Delete logs all of which has been in the ledger for this long. Returns how many."""
        row, deleted = tables.usage_logs.c, 0
        with self._database.read() as connection:
            old = select(row.path).where(row.closed < time.time() - older_than_s, row.closed > time.time() - older_than_s - _SWEPT_S)
            paths = connection.execute(old).scalars().all()
        for path in paths:
            found = self._find(path)
            deleted += found.exists()
            found.unlink(missing_ok=True)
        return deleted

    def drain(self, log: UsageLog | None = None) -> None:
        """Post everything: of a log that was closed, and of every writer that is gone."""
        if log is not None:
            self.post(log.incarnation)
        self.adopt()

    def _post_batch(self, incarnation: str, until: int | None) -> int | None:
        """Post the next records in one transaction; None when the log is posted up to `until`, or all of it where its writer is gone."""
        row = tables.usage_logs.c
        with self._database.read() as connection:
            found = connection.execute(select(tables.usage_logs).where(row.incarnation == incarnation)).one()
        if found.closed is not None:
            return None
        path, ended = self._find(found.path), until is None
        if until is not None and until <= found.position:
            return None
        batch = _Batch(incarnation, dict(found.unmarked), position=found.position)
        for record, position in read_log(path, found.position):
            batch.add(record, position)
            if isinstance(record, Damaged):
                self._name_damage(path, record)
            if len(batch.charges) >= _EVENTS_AT_ONCE:
                break
        if batch.position == found.position and not ended:
            return None
        at_end = batch.closed or (ended and len(batch.charges) < _EVENTS_AT_ONCE)
        if at_end and (rest := _size(path) - batch.position) > 0:
            self._name_damage(path, Damaged(batch.position, rest))
        with self._database.write() as connection:
            return self._commit(connection, batch, found.position, at_end)

    def _commit(self, connection: Connection, batch: _Batch, expected: int, at_end: bool) -> int | None:
        row = tables.usage_logs.c
        standing = select(row.position, row.closed).where(row.incarnation == batch.incarnation).with_for_update()
        now = connection.execute(standing).one()
        if now.position != expected or now.closed is not None:
            return 0  # another poster was faster; look again
        posted = ledger.post(connection, batch.charges, incarnation=batch.incarnation)
        ledger.credit(connection, batch.credits)
        if at_end:
            _doubt(connection, list(batch.unmarked.values()))
            reservations.release_all(connection, holder=batch.incarnation)
        values: dict[str, Any] = {"position": batch.position, "unmarked": batch.unmarked, "closed": time.time() if at_end else None}
        connection.execute(update(tables.usage_logs).where(row.incarnation == batch.incarnation).values(**values))
        return posted

    def _find(self, path: str) -> Path:
        """Where a log is now: a home may have been moved."""
        noted = Path(path)
        return noted if noted.exists() else self._folder / noted.name

    def _name_damage(self, path: Path, record: Damaged) -> None:
        self.damaged.append((path, record))
        _log.error("the usage log %s is damaged: %d bytes from %d on cannot be read", path, record.size_bytes, record.position)


def _usage(charge: Charge) -> ledger.Usage:
    return ledger.Usage(
        id=charge.id,
        time=charge.time,
        project=charge.project,
        kind=charge.kind,
        item=charge.item,
        model=charge.model,
        quantity=charge.quantity,
        unit=charge.unit,
        version=charge.version,
        key=charge.key,
        request=charge.request,
        price=charge.price,
        amount_micro=charge.amount_micro,
        reservation=charge.reservation,
        data={"compute_us": charge.compute_us},
    )


def _doubt(connection: Connection, events: list[str]) -> None:
    row = tables.usage_events.c
    for begin in range(0, len(events), _EVENTS_AT_ONCE):
        chosen = row.id.in_(events[begin : begin + _EVENTS_AT_ONCE])
        connection.execute(update(tables.usage_events).where(chosen, row.credited.is_(False)).values(in_doubt=True))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise StorageError(f"the usage log {path} cannot be read ({error.strerror}); bring it back, since it tells who owes what") from None


@contextmanager
def _writer_gone(path: Path) -> Iterator[bool]:
    """Whether nobody writes a log. While the block runs, nobody else adopts it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False  # of another host, which adopts it
        return
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(file)
