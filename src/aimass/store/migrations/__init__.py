"""Bringing a database to this release's form, by Alembic."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from aimass.core.errors import StorageError, UsageError
from aimass.store.sqlite import WRITE

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_FOLDER = Path(__file__).parent
_LOCK = 4_151_977  # any number, the same in every process
_one_thread = threading.Lock()  # Alembic keeps what it works on in its module


def migrate(engine: Engine) -> None:
    """Apply the steps that the database lacks, one process at a time.

    Raises:
        UsageError: a newer release has written the database.
    """
    with engine.connect() as connection:
        if _is_current(connection):
            return
    with _one_thread, engine.connect() as connection:
        is_sqlite = engine.dialect.name == "sqlite"
        if is_sqlite:
            _keep_rules(connection, False)  # a table that is made anew is dropped once, and rows refer to it
        try:
            with connection.execution_options(**{WRITE: True}).begin():
                if not is_sqlite:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                if not _is_current(connection):
                    command.upgrade(configuration(connection), "head")
                if is_sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                    raise StorageError("the database has rows that refer to nothing, so it was left as it was; restore it from a backup")
        finally:
            if is_sqlite:
                _keep_rules(connection, True)


def configuration(connection: Connection) -> AlembicConfig:
    """What Alembic's commands want to know."""
    found = AlembicConfig()
    found.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    found.attributes["connection"] = connection
    return found


def _is_current(connection: Connection) -> bool:
    scripts = ScriptDirectory.from_config(configuration(connection))
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise UsageError(f"the database has the form {found!r} of a newer release; update aimass, or give another database")
    return found == scripts.get_current_head()


def _keep_rules(connection: Connection, yes: bool) -> None:
    """Whether SQLite sees that references lead somewhere. It hears this only between transactions."""
    cursor: Any = connection.connection.cursor()
    cursor.execute(f"PRAGMA foreign_keys={'ON' if yes else 'OFF'}")
    cursor.close()
