"""What the tests of billing have in common: a database with projects, and events."""

import atexit
import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sqlalchemy import make_url

from aimass.billing import ledger, prices
from aimass.billing.record import UsageLog
from aimass.store import tables
from aimass.store.database import Database, sqlite_url

PROJECT, OTHER = "proj-a", "proj-b"
NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC


@cache
def _template():
    """An empty SQLite database that has its tables; making them takes longer than a test."""
    folder = Path(tempfile.mkdtemp(prefix="aimass-books-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    database = Database.open(sqlite_url(folder / "empty.db"))
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return folder / "empty.db"


@contextmanager
def books(url):
    """A database with two projects and the price plan."""
    if url.startswith("sqlite"):
        shutil.copy(_template(), make_url(url).database)
    database = Database.open(url)
    prices.ensure(database)
    with database.write() as connection:
        for project in (PROJECT, OTHER):
            connection.execute(tables.projects.insert().values(id=project, name=project, created=1.0))
    yield database
    database.close()


def usage(id, **changes):
    """One prediction of one row."""
    values = {
        "id": id,
        "time": NOON,
        "project": PROJECT,
        "kind": "prediction",
        "item": "prediction",
        "model": "digits",
        "version": 1,
        "quantity": 1,
        "unit": "row",
        "key": "key",
    }
    return ledger.Usage(**{**values, **changes})


def post(database, *events, **named):
    with database.write() as connection:
        return ledger.post(connection, events, **named)


def charge(log, rows=1, *, project=PROJECT, event_id=None, reservation=None, request="req-1", time=NOON):
    """Write a charge of some rows at the plan's price."""
    return log.charge(
        time,
        project,
        "key",
        "prediction",
        "prediction",
        "digits",
        1,
        rows,
        "row",
        request,
        30,
        "price-prediction",
        rows * 100,
        reservation,
        event_id,
    )


def new_log(folder, poster):
    """A log that is made known."""
    log = UsageLog(folder / "usage")
    poster.register(log)
    return log


def drop(log):
    """Let go of a log as a kill does: no last frame."""
    os.close(log._file)
    log._file = -1


def balance(database, account, **period):
    with database.read() as connection:
        return ledger.balance(connection, account, **period)


def trial_balance(database):
    with database.read() as connection:
        return ledger.trial_balance(connection)


def events(database):
    """Every event by its id."""
    with database.read() as connection:
        return {row.id: row for row in connection.execute(tables.usage_events.select())}
