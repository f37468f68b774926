"""Taking out of the store what nothing in the database refers to any more."""

from __future__ import annotations

from sqlalchemy import Connection, select

from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.tables import datasets, files, versions

_OLD_S = 24 * 3600.0


def sweep(database: Database, blobs: Blobs, older_than_s: float = _OLD_S) -> int:
    """Remove the blobs that no file, data set or version has, and what killed processes left unfinished.

    Args:
        database: what says which are in use.
        blobs: the store.
        older_than_s: younger blobs stay, since what refers to them may not be written yet. More than the longest upload takes.

    Returns:
        how many blobs went.
    """
    with database.read() as connection:
        keep = blobs_in_use(connection)
    return blobs.sweep(keep, older_than_s)


def blobs_in_use(connection: Connection) -> set[str]:
    """The hashes of all blobs that something refers to."""
    found = set(connection.scalars(select(files.c.sha256)))
    found.update(sha256 for sha256 in connection.scalars(select(datasets.c.sha256)) if sha256 is not None)
    for held in connection.scalars(select(versions.c.files)):
        found.update(about["sha256"] for about in held.values())
    return found
