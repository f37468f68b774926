"""Keys: who may do what. Only the hash of a key's secret is kept; callers are told apart from memory.

A key is `am_<id>_<secret>`. The id is public and is what lists, logs and bills name; the secret is shown once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from sqlalchemy import Connection, Row, select, update

from aimass.core.errors import AimassError, Forbidden, NotFound, Unauthorized
from aimass.core.ids import new_id
from aimass.service.changes import bump
from aimass.serving.ports import Caller
from aimass.store.database import Database
from aimass.store.paging import Page, fetch
from aimass.store.tables import keys, projects

ROLES = ("inference", "member", "admin")
DEFAULT_PROJECT = "default"
_NO_KEY = "no API key was given; send the header 'Authorization: Bearer am_...', with a key from `aimass keys create`"
_BAD_KEY = "the API key is unknown, mistyped or revoked; check it, or make a new one with `aimass keys create`"


@dataclass(frozen=True, slots=True)
class _Known:
    hash: bytes
    caller: Caller


class Keys:
    """The keys of all projects. `read` fills the memory; `Changes` calls it when a key or a project has changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes, _Known] = {}
        self._projects: dict[bytes, str] = {}

    def read(self) -> None:
        """Take the living keys and the projects into memory."""
        with self._database.read() as connection:
            living = connection.execute(select(keys).where(keys.c.revoked.is_(None))).all()
            named = connection.execute(select(projects.c.id, projects.c.name)).all()
        self._projects = {label.encode(): row.id for row in named for label in (row.name, row.id)}
        self._known = {row.id.encode(): _Known(bytes.fromhex(row.hash), Caller(row.project_id, row.id, row.role)) for row in living}

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Who calls. From memory, a few microseconds.

        Args:
            headers: names in lower case.

        Raises:
            Unauthorized: no key, or one that is not good.
            Forbidden: the key may not act in the project that the headers name.
        """
        given = headers.get(b"authorization")
        given = given[7:].strip() if given is not None and given[:7].lower() == b"bearer " else headers.get(b"x-api-key")
        if not given:
            raise Unauthorized(_NO_KEY)
        parts = given.split(b"_", 2)
        known = self._known.get(parts[1]) if len(parts) == 3 and parts[0] == b"am" else None
        if known is None or not hmac.compare_digest(hashlib.sha256(parts[2]).digest(), known.hash):
            raise Unauthorized(_BAD_KEY)
        wanted = headers.get(b"openai-project") or headers.get(b"x-aimass-project")
        return known.caller if wanted is None else self._acting_in(wanted, known.caller)

    def _acting_in(self, wanted: bytes, caller: Caller) -> Caller:
        project = self._projects.get(wanted)
        if project == caller.project:
            return caller
        if project is None or caller.role != "admin":
            raise Forbidden(
                f"this key may not act in project {wanted.decode(errors='replace')[:128]!r}; leave the header out, or use another key"
            )
        return Caller(project, caller.key, caller.role)

    def first(self) -> str | None:
        """Make the default project and its admin key, where there is no project of that name yet.

        Returns:
            the key, which is not to be had again; None where the project is there.
        """
        with self._database.write() as connection:
            project: dict[str, Any] = {"id": new_id("proj"), "name": DEFAULT_PROJECT, "created": time.time()}
            statement = self._database.insert(projects).values(project).on_conflict_do_nothing()
            if connection.execute(statement.returning(projects.c.id)).scalar() is None:
                return None
            return str(self._make(connection, project["id"], "first admin key", "admin")["key"])

    def create(self, project: str, name: str, role: str) -> dict[str, Any]:
        """Make a key for a project, given by id or name. The answer alone has the secret, under `key`.

        Raises:
            NotFound: there is no such project.
        """
        with self._database.write() as connection:
            found = connection.execute(select(projects.c.id).where((projects.c.id == project) | (projects.c.name == project))).scalar()
            if found is None:
                raise NotFound(f"there is no project {project!r}; `aimass projects list` shows them, and GET /v1/projects")
            return self._make(connection, found, name, role)

    def listed(self, page: Page) -> tuple[list[dict[str, Any]], bool]:
        """The keys of all projects, revoked ones too, and whether there are more."""
        with self._database.read() as connection:
            rows, more = fetch(connection, select(keys), keys.c.id, page)
        return [_shown(row) for row in rows], more

    def revoke(self, key: str) -> dict[str, Any]:
        """End a key. One that has been revoked stays so.

        Raises:
            NotFound: there is no such key.
        """
        with self._database.write() as connection:
            connection.execute(update(keys).where(keys.c.id == key, keys.c.revoked.is_(None)).values(revoked=time.time()))
            row = connection.execute(select(keys).where(keys.c.id == key)).one_or_none()
            if row is None:
                raise NotFound(f"there is no key {key!r}; GET /v1/keys lists them")
            bump(self._database, connection, "keys")
        return _shown(row)

    def _make(self, connection: Connection, project: str, name: str, role: str) -> dict[str, Any]:
        secret = secrets.token_hex(24)
        row = {
            "id": new_id("key").removeprefix("key-"),
            "project_id": project,
            "name": name,
            "role": role,
            "hash": hashlib.sha256(secret.encode()).hexdigest(),
            "created": time.time(),
        }
        made = connection.execute(keys.insert().values(row).returning(keys)).one()
        bump(self._database, connection, "keys")
        return {**_shown(made), "key": f"am_{row['id']}_{secret}"}


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "key",
        "name": row.name,
        "role": row.role,
        "project": row.project_id,
        "created_at": int(row.created),
        "revoked_at": None if row.revoked is None else int(row.revoked),
    }


_scheme = HTTPBearer(auto_error=False, scheme_name="key", description="A key of the service: am_<id>_<secret>")


async def _inference(request: Request, _: Annotated[object, Security(_scheme)]) -> Caller:
    caller: Caller = request.app.state.platform.keys.caller(dict(request.scope["headers"]))
    return caller


async def _member(caller: Annotated[Caller, Depends(_inference)]) -> Caller:
    if caller.role == "inference":
        raise Forbidden("this key is for predictions alone; use a key with the role 'member'")
    return caller


async def _admin(caller: Annotated[Caller, Depends(_inference)]) -> Caller:
    return _as_admin(caller)


def _as_admin(caller: Caller) -> Caller:
    if caller.role != "admin":
        raise Forbidden(f"this needs a key with the role 'admin'; the one given is {caller.role!r}")
    return caller


def is_good(request: Request) -> bool:
    """Whether the key that a request came with is still good, for answers that go on for long."""
    try:
        request.app.state.platform.keys.caller(dict(request.scope["headers"]))
    except AimassError:
        return False
    return True


def admin_of(request: Request) -> Caller:
    """The administrator who calls, where a route asks for one only now and then.

    Raises:
        Unauthorized: no good key.
        Forbidden: a key of another role.
    """
    return _as_admin(request.app.state.platform.keys.caller(dict(request.scope["headers"])))


Inference = Annotated[Caller, Depends(_inference)]
"""Anyone with a key."""
Member = Annotated[Caller, Depends(_member)]
"""A key that may do all of its project's work."""
Admin = Annotated[Caller, Depends(_admin)]
"""A key that may manage the service."""
