"""The database: SQLite in a file by default, PostgreSQL by URL, through the same statements."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Table, create_engine, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import DataError as DataRefused
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aimass.core.errors import MissingExtra, StorageError, Unavailable, UsageError
from aimass.store.sqlite import PATIENCE_S, POOL, WRITE, busy, sqlite_engine

_CONNECT_S = 10
_MET_ANOTHER = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock not available


class Database:
    """A pool of connections, and transactions on them. Safe to use from several threads.

    Args:
        url: `sqlite:////path/to/file.db` or `postgresql://user:password@host/name`.

    Raises:
        UsageError: the URL is not one of these.
        StorageError: it cannot be reached.
        MissingExtra: the driver of PostgreSQL is not installed.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._writer, self._inside = threading.Lock(), threading.local()

    @classmethod
    def open(cls, url: str) -> Database:
        """Open a database and bring its tables to this release's form."""
        from aimass.store.migrations import migrate

        database = cls(url)
        with _in_words(database.engine):
            migrate(database.engine)
        return database

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One view of what has been committed. The databases refuse to write in it."""
        with _in_words(self.engine), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is there when the block ends, or nothing where it raises.

        SQLite lets one writer in at a time, from the start of the block. Threads of this process wait for each other here, so that
        one of them alone contends with other processes.

        Raises:
            Unavailable: others wrote for a minute without a pause.
        """
        with (
            _in_words(self.engine),
            self._turn(),
            self.engine.connect().execution_options(**{WRITE: True}) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        assert not getattr(self._inside, "yes", False), "a write transaction inside another would wait for itself; pass the connection on"
        if self.is_sqlite and not self._writer.acquire(timeout=PATIENCE_S):
            raise busy()
        self._inside.yes = True
        try:
            yield
        finally:
            self._inside.yes = False
            if self.is_sqlite:
                self._writer.release()

    def insert(self, table: Table) -> Any:
        """An `INSERT` that knows `on_conflict_do_nothing` and `on_conflict_do_update`, which both databases have."""
        kind: type[Insert] = sqlite.Insert if self.is_sqlite else postgresql.Insert
        return kind(table)

    def close(self) -> None:
        """Close every connection. The database can be used again."""
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    """The URL of a database file.

    >>> sqlite_url(Path("/tmp/a.db"))
    'sqlite:////tmp/a.db'
    """
    return f"sqlite:///{path}"


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UsageError(
            "the database URL cannot be read; give sqlite:////path/to/file.db or postgresql://user:password@host/name"
        ) from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return sqlite_engine(parsed)
    if kind not in ("postgresql", "postgres"):
        raise UsageError(f"{kind!r} is no database that aimass works with; give a sqlite or a postgresql URL")
    patience = {} if "connect_timeout" in parsed.query else {"connect_timeout": _CONNECT_S}
    try:
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=patience, **POOL)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise MissingExtra("PostgreSQL needs its driver; install it: pip install 'aimass[postgres]'") from None


@contextmanager
def _in_words(engine: Engine) -> Iterator[None]:
    """Say what the database refused. Broken rules, such as a name that is taken, go to the caller as they are."""
    where = engine.url.set(query={}).render_as_string(hide_password=True)  # a password can stand in the query as well
    try:
        yield
    except PoolTimeout as error:
        raise Unavailable(f"every connection to {where} is in use; try again") from error
    except (UnicodeEncodeError, OverflowError, DataRefused) as error:
        told = str(getattr(error, "orig", error)).splitlines()[0]
        raise UsageError(f"the database cannot hold a value ({told}); send shorter text, valid Unicode and smaller numbers") from error
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) in _MET_ANOTHER:
            raise Unavailable(f"a transaction met another one ({error.orig}); try again") from error
        raise StorageError(
            f"the database {where} does not answer ({error.orig}); check that it runs and has space, then try again"
        ) from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise StorageError(f"the connection to {where} was lost; try again") from error
