"""Taking out of the store what nothing in the database refers to any more."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.tables import datasets, files, projects, versions

_OLD_S = 24 * 3600.0


def sweep(database: Database, blobs: Blobs, older_than_s: float = _OLD_S) -> int:
    """Remove the blobs that no file, data set or version has, and what killed processes left unfinished.

    What is older than the database is none of its business: a new database on a store that was in use removes nothing of it.

    Args:
        database: what says which are in use.
        blobs: the store.
        older_than_s: younger blobs stay, since what refers to them may not be written yet. More than the longest upload takes.

    Returns:
        how many blobs went.
    """
    with database.read() as connection:
        keep, born = blobs_in_use(connection), connection.scalar(select(func.min(projects.c.created)))
    return 0 if born is None else blobs.sweep(keep, older_than_s, since=born)


def blobs_in_use(connection: Connection) -> set[str]:
    """The hashes of all blobs that something refers to."""
    found = set(connection.scalars(select(files.c.sha256)))
    found.update(sha256 for sha256 in connection.scalars(select(datasets.c.sha256)) if sha256 is not None)
    for held in connection.scalars(select(versions.c.files)):
        found.update(about["sha256"] for about in held.values())
    return found
