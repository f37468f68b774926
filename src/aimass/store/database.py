"""The database: SQLite in a file by default, PostgreSQL by URL, through the same statements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from aimass.core.errors import MissingExtra, StorageError, UsageError

_BUSY_S = 30
_WRITE = "aimass_write"


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
        """One view of what has been committed."""
        with _in_words(self.engine), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it is there when the block ends, or nothing where it raises.

        SQLite lets one writer in at a time, from the start of the block.
        """
        with _in_words(self.engine), self.engine.connect().execution_options(**{_WRITE: True}) as connection, connection.begin():
            yield connection

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
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() != "postgresql":
        raise UsageError(f"{parsed.get_backend_name()!r} is no database that aimass works with; give a sqlite or a postgresql URL")
    try:
        return create_engine(parsed, pool_pre_ping=True, pool_size=10, max_overflow=20)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise MissingExtra("PostgreSQL needs its driver; install it: pip install 'aimass[postgres]'") from None


def _sqlite(url: Any) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _BUSY_S, "check_same_thread": False}, pool_size=10, max_overflow=20)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own begin comes too late to keep two writers apart
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _in_words(engine: Engine) -> Iterator[None]:
    """Say what the database refused. Broken rules, such as a name that is taken, go to the caller as they are."""
    try:
        yield
    except OperationalError as error:
        where = engine.url.render_as_string(hide_password=True)
        raise StorageError(
            f"the database {where} does not answer ({error.orig}); check that it runs and has space, then try again"
        ) from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        where = engine.url.render_as_string(hide_password=True)
        raise StorageError(f"the connection to {where} was lost; try again") from error
