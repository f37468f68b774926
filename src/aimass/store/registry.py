"""The registry: named models, their numbered versions that never change, and aliases that move.

A version is seen when all of it is there: its blobs are stored first, then one transaction gives it the next number.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, select

from aimass.core.errors import NotFound, UsageError, nearest
from aimass.core.ids import new_id
from aimass.store.blobs import Blob, Blobs
from aimass.store.cache import Cache
from aimass.store.database import Database
from aimass.store.names import check_alias, check_name, check_path
from aimass.store.paging import Page, fetch
from aimass.store.saved import files_of, read_signature
from aimass.store.tables import aliases, models, versions
from aimass.store.versions import RegisteredModel, Version, model_of, version_of

__all__ = ["RegisteredModel", "Registry", "Version"]

_HIGHEST = 2**31 - 1
_MOST_NAMED = 10  # models in a message


class Registry:
    """What is known of models. Safe to use from several threads and processes.

    Args:
        database: where the names are.
        blobs: where the bytes are.
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database, self._blobs = database, blobs
        self._cache = Cache(blobs)

    def publish(
        self,
        connection: Connection,
        *,
        project: str,
        name: str,
        files: Mapping[str, Blob],
        signature: Mapping[str, Any],
        card: Mapping[str, Any],
        lineage: Mapping[str, Any],
    ) -> Version:
        """Give stored blobs the next number of a model, in the caller's transaction. The first makes the model.

        Args:
            connection: a write transaction; the number is free again when it is rolled back.
            project: the project's id.
            name: the model's.
            files: by path in the model's folder. The blobs must be in the store already.
            signature: what goes in and what comes out.
            card: how it came to be, and how good it is.
            lineage: what it was made from: `file`, `sha256`, `dataset`, `job`, `run`, `start_from`.

        Raises:
            UsageError: the name or a path is not one that is allowed.
        """
        check_name(name)
        _check_files(files)
        now = time.time()
        model_id, number = self._next_number(connection, project, name, now)
        version = Version(
            id=new_id("ver"),
            project=project,
            model=name,
            number=number,
            created=now,
            files=dict(files),
            bytes=sum(blob.size_bytes for blob in files.values()),
            signature=dict(signature),
            card=dict(card),
            lineage=dict(lineage),
        )
        connection.execute(
            versions.insert().values(
                id=version.id,
                model_id=model_id,
                number=number,
                created=now,
                files={path: {"sha256": blob.sha256, "bytes": blob.size_bytes} for path, blob in files.items()},
                bytes=version.bytes,
                signature=version.signature,
                card=version.card,
                lineage=version.lineage,
            )
        )
        return version

    def add(
        self, project: str, name: str, folder: Path, *, card: Mapping[str, Any] | None = None, lineage: Mapping[str, Any] | None = None
    ) -> Version:
        """Keep a saved model as the next version.

        Args:
            project: the project's id.
            name: the model's.
            folder: what `Model.save` wrote.
            card: how it came to be.
            lineage: what it was made from.

        Raises:
            NotFound: the folder holds no model.
            DataError: the model is damaged, or newer than this release.
            UsageError: the name is not one that is allowed.
            StorageError: it could not be kept. No version is there.
        """
        check_name(name)
        signature = read_signature(folder)
        found = files_of(folder)
        for path in found:
            check_path(path)
        files = {path: self._blobs.put_file(file) for path, file in found.items()}
        with self._database.write() as connection:
            return self.publish(
                connection, project=project, name=name, files=files, signature=signature, card=card or {}, lineage=lineage or {}
            )

    def models(self, project: str, page: Page) -> tuple[list[RegisteredModel], bool]:
        """One page of a project's models, and whether there are more."""
        with self._database.read() as connection:
            rows, more = fetch(connection, select(models).where(models.c.project_id == project), models.c.id, page)
            named = _aliases(connection, [row.id for row in rows])
        return [model_of(row, named.get(row.id, {})) for row in rows], more

    def model(self, project: str, name: str) -> RegisteredModel:
        """A model by its name.

        Raises:
            NotFound: the project has none of that name.
        """
        with self._database.read() as connection:
            row = self._row(connection, project, name)
            return model_of(row, _aliases(connection, [row.id]).get(row.id, {}))

    def versions(self, project: str, name: str, page: Page) -> tuple[list[Version], bool]:
        """One page of a model's versions, and whether there are more.

        Raises:
            NotFound: the project has no such model.
        """
        with self._database.read() as connection:
            model = self._row(connection, project, name)
            rows, more = fetch(connection, _versions().where(versions.c.model_id == model.id), versions.c.id, page)
            named = _aliases(connection, [model.id]).get(model.id, {})
        return [version_of(row, named) for row in rows], more

    def version(self, project: str, name: str, ref: int | str | None = None) -> Version:
        """One version of a model.

        Args:
            project: the project's id.
            name: the model's.
            ref: its number, also as text, or an alias; None for the newest.

        Raises:
            NotFound: there is none, and which there are.
        """
        with self._database.read() as connection:
            model = self._row(connection, project, name)
            named = _aliases(connection, [model.id]).get(model.id, {})
            number = _number(model, named, ref)
            row = _one(connection, model, number)
        if row is None:
            raise _unknown_version(model, named, ref)
        return version_of(row, named)

    def version_by_id(self, version_id: str) -> Version:
        """A version by its id, whoever it belongs to.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as connection:
            row = connection.execute(_versions().where(versions.c.id == version_id)).one_or_none()
            if row is None:
                raise NotFound(f"there is no version {version_id[:80]!r}")
            return version_of(row, _aliases(connection, [row.model_id]).get(row.model_id, {}))

    def set_alias(self, project: str, name: str, alias: str, number: int) -> Version:
        """Point an alias at a version. Whoever looks meanwhile sees where it pointed, or where it points, and nothing between.

        Raises:
            NotFound: there is no such model or version.
            UsageError: the alias is not one that is allowed.
        """
        check_alias(alias)
        with self._database.write() as connection:
            model = self._row(connection, project, name)
            row = _one(connection, model, number)
            if row is None:
                raise _unknown_version(model, {}, number)
            fresh = {"number": number, "updated": time.time()}
            statement = self._database.insert(aliases).values(model_id=model.id, name=alias, **fresh)
            connection.execute(statement.on_conflict_do_update(index_elements=["model_id", "name"], set_=fresh))
            return version_of(row, _aliases(connection, [model.id])[model.id])

    def delete_alias(self, project: str, name: str, alias: str) -> None:
        """Take an alias away. The version stays.

        Raises:
            NotFound: the model has no such alias, and which it has.
        """
        with self._database.write() as connection:
            model = self._row(connection, project, name)
            gone = connection.execute(delete(aliases).where(aliases.c.model_id == model.id, aliases.c.name == alias)).rowcount
            if not gone:
                known = ", ".join(sorted(_aliases(connection, [model.id]).get(model.id, {}))) or "none"
                raise NotFound(f"{name!r} has no alias {alias!r}; it has: {known}")

    def materialise(self, version: Version, cache: Path) -> Path:
        """A folder with the version's files, for programs that read files.

        It is made once and checked by hash; a copy that is damaged is made anew. Any number of processes may ask at once.

        Args:
            version: which.
            cache: the folder in which it gets one of its own.

        Raises:
            StorageError: a blob is damaged, which the message names, or the disk is full.
            NotFound: a blob is gone.
        """
        return self._cache.folder(version.id, version.files, cache)

    def _next_number(self, connection: Connection, project: str, name: str, now: float) -> tuple[str, int]:
        """The row of the model stays locked until the transaction ends, so the next in line gets the next number."""
        first = self._database.insert(models).values(id=new_id("model"), project_id=project, name=name, created=now, newest=1)
        again = first.on_conflict_do_update(index_elements=["project_id", "name"], set_={"newest": models.c.newest + 1})
        row = connection.execute(again.returning(models.c.id, models.c.newest)).one()
        return row.id, row.newest

    def _row(self, connection: Connection, project: str, name: str) -> Row[Any]:
        row = connection.execute(select(models).where(models.c.project_id == project, models.c.name == name)).one_or_none()
        if row is None:
            known = connection.scalars(select(models.c.name).where(models.c.project_id == project).order_by(models.c.name)).all()
            raise NotFound(_unknown(name, known))
        return row


def _check_files(files: Mapping[str, Blob]) -> None:
    for path in files:
        check_path(path)
    if not files:
        raise UsageError("a version needs files; give at least model.json and model.safetensors")


def _unknown(name: str, known: Sequence[str]) -> str:
    """That there is no such model, and which there are."""
    if not known:
        return f"there is no model {name[:128]!r} in this project, which has none yet"
    more = f" and {len(known) - _MOST_NAMED:,} more" if len(known) > _MOST_NAMED else ""
    there = f"{', '.join(known[:_MOST_NAMED])}{more}"
    meant = nearest(name[:128], known) or "."
    return f"there is no model {name[:128]!r} in this project{meant} There are: {there}"


def _number(model: Row[Any], named: Mapping[str, int], ref: int | str | None) -> int:
    if ref is None:
        newest: int = model.newest
        return newest
    if isinstance(ref, int):
        return ref
    if ref.isdecimal() and len(ref) < 10:
        return int(ref)
    if ref not in named:
        raise _unknown_version(model, named, ref)
    return named[ref]


def _unknown_version(model: Row[Any], named: Mapping[str, int], ref: int | str | None) -> NotFound:
    numbers = "1" if model.newest == 1 else f"1 to {model.newest}"
    known = f", and the aliases {', '.join(sorted(named))}" if named else ""
    return NotFound(f"{model.name!r} has no version {str(ref)[:80]!r}; it has {numbers}{known}")


def _versions() -> Select[Any]:
    return select(versions, models.c.name.label("model"), models.c.project_id).join(models, models.c.id == versions.c.model_id)


def _one(connection: Connection, model: Row[Any], number: int) -> Row[Any] | None:
    if not 1 <= number <= _HIGHEST:
        return None
    return connection.execute(_versions().where(versions.c.model_id == model.id, versions.c.number == number)).one_or_none()


def _aliases(connection: Connection, model_ids: list[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    if model_ids:
        for row in connection.execute(select(aliases).where(aliases.c.model_id.in_(model_ids)).order_by(aliases.c.name)):
            found.setdefault(row.model_id, {})[row.name] = row.number
    return found
