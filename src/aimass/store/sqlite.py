"""SQLite as a database of many threads and processes: readers never wait, and writers come in one after the other."""

from __future__ import annotations

import json
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from aimass.core.errors import StorageError, Unavailable, UsageError, storage_errors

WRITE = "aimass_write"
"""The execution option of a connection that will write."""

PATIENCE_S = 60.0
"""How long a writer waits for the others."""

POOL: dict[str, Any] = {
    "pool_size": 10,
    "max_overflow": 30,
    "hide_parameters": True,  # what is written may be a secret, and errors are logged
    "json_serializer": partial(json.dumps, allow_nan=False),  # PostgreSQL's JSON has no NaN
}

_BUSY_MS, _KNOCK_MS = 30_000, 10


def sqlite_engine(url: URL) -> Engine:
    """An engine whose transactions begin as a reader's, or, with the option `WRITE`, as a writer's.

    Raises:
        UsageError: the URL names no file.
        StorageError: its folder cannot be made.
    """
    if not url.database or url.database == ":memory:":
        raise UsageError("a database in memory is not shared by threads; give the path of a file: sqlite:////path/to/file.db")
    path = Path(url.database)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False}, **POOL)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own begin comes too late to keep two writers apart
        cursor = connection.cursor()
        try:
            _when_free(cursor, "PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise StorageError(f"{path} is no SQLite database, or is damaged ({error}); restore it, or give another path") from error
        finally:
            cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITE)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(f"PRAGMA query_only={'OFF' if writes else 'ON'}")
            if writes:
                _when_free(cursor, "BEGIN IMMEDIATE")
            else:
                cursor.execute("BEGIN")
        finally:
            cursor.close()

    return engine


def busy() -> Unavailable:
    """What a writer is told whose turn did not come."""
    return Unavailable(f"others wrote to the database for {PATIENCE_S:.0f} s without a pause; try again")


def _when_free(cursor: Any, statement: str) -> None:
    """Run a statement that needs the database's lock.

    SQLite's own waiting knocks ever more rarely, up to ten times a second, and misses the short pauses of busy writers; and when a
    database is first opened it does not wait at all. So this knocks often.
    """
    deadline = time.monotonic() + PATIENCE_S
    cursor.execute(f"PRAGMA busy_timeout={_KNOCK_MS}")
    try:
        while True:
            try:
                cursor.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise busy() from error
                time.sleep(0.001)
    finally:
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
