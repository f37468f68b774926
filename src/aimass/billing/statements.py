"""Statements that both databases have under names of their own, for those who hold a connection only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Insert, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from aimass.store import tables

SUBJECT = "billing"


def insert(connection: Connection, table: Table) -> Any:
    """An `INSERT` that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    kind: type[Insert] = sqlite.Insert if connection.dialect.name == "sqlite" else postgresql.Insert
    return kind(table)


def bump(connection: Connection) -> None:
    """Tell every meter that prices or budgets changed, in the caller's transaction."""
    row = tables.revisions.c
    statement = insert(connection, tables.revisions).values(name=SUBJECT, number=1)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"number": row.number + 1}))


def revision(connection: Connection) -> int:
    """The number that grows with every change of prices and budgets."""
    row = tables.revisions.c
    return int(connection.execute(select(row.number).where(row.name == SUBJECT)).scalar_one_or_none() or 0)
