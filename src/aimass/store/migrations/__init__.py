"""Bringing a database to this release's form, by Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config as AlembicConfig

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_FOLDER = Path(__file__).parent
_LOCK = 4_151_977  # any number, the same in every process


def migrate(engine: Engine) -> None:
    """Apply the steps that the database lacks, one process at a time."""
    with engine.connect().execution_options(aimass_write=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        command.upgrade(configuration(connection), "head")


def configuration(connection: Connection) -> AlembicConfig:
    """What Alembic's commands want to know."""
    found = AlembicConfig()
    found.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    found.attributes["connection"] = connection
    return found
