"""Deployments: under which name which version answers. One is moved only when an engine has loaded what it is moved to."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, delete, select

from aimass.core.errors import AimassError, NotFound
from aimass.core.ids import new_id
from aimass.service.changes import bump
from aimass.store.names import check_name
from aimass.store.paging import Page, fetch
from aimass.store.registry import Version
from aimass.store.tables import deployments

if TYPE_CHECKING:
    from aimass.service.platform import Platform


def deploy(
    platform: Platform, project: str, *, model: str, ref: int | str | None, name: str | None, settings: dict[str, Any], wait: bool
) -> dict[str, Any]:
    """Let a version answer under a name; a name that answers already is moved in one step.

    Args:
        platform: where.
        project: the project's id.
        model: the model's name in the registry.
        ref: a number, an alias, or None for the newest version.
        name: what requests call it; the model's name if None.
        settings: of the deployment.
        wait: whether an engine has to have loaded it first. If it cannot, nothing changes.

    Raises:
        NotFound: there is no such model or version.
        AimassError: the version cannot be loaded; the message says why.
    """
    version = platform.registry.version(project, model, ref)
    name = name or model
    check_name(name)
    if wait:
        _load(platform, version, name, settings)
    row = _write(platform, version, name, settings)
    platform.changes.look()
    if not wait:
        threading.Thread(target=_load_quietly, args=(platform, version, name, settings), name="deploy", daemon=True).start()
    return shown(platform, row)


def _load(platform: Platform, version: Version, name: str, settings: dict[str, Any]) -> None:
    platform.directory.prepare(version)
    platform.on_loop(platform.center.load(platform.directory.make_target(version, name, settings)))


def _load_quietly(platform: Platform, version: Version, name: str, settings: dict[str, Any]) -> None:
    try:
        _load(platform, version, name, settings)
    except AimassError as error:
        platform.directory.failed(version.id, str(error))


def _write(platform: Platform, version: Version, name: str, settings: dict[str, Any]) -> Row[Any]:
    now = time.time()
    moved = {"model": version.model, "version": version.number, "version_id": version.id, "settings": settings, "updated": now}
    values = {"id": new_id("dep"), "project_id": version.project, "name": name, "created": now, **moved}
    with platform.database.write() as connection:
        statement = platform.database.insert(deployments).values(values)
        statement = statement.on_conflict_do_update(index_elements=["project_id", "name"], set_=moved)
        row = connection.execute(statement.returning(deployments)).one()
        bump(platform.database, connection, "deployments")
    return row


def listed(platform: Platform, project: str, page: Page) -> tuple[list[dict[str, Any]], bool]:
    """A page of a project's deployments, and whether there are more."""
    with platform.database.read() as connection:
        rows, more = fetch(connection, select(deployments).where(deployments.c.project_id == project), deployments.c.id, page)
    return [shown(platform, row) for row in rows], more


def find(platform: Platform, project: str, ref: str) -> Row[Any]:
    """A project's deployment by its id or name.

    Raises:
        NotFound: there is none.
    """
    mine = deployments.c.project_id == project
    with platform.database.read() as connection:
        row = connection.execute(select(deployments).where(mine, (deployments.c.id == ref) | (deployments.c.name == ref))).first()
    if row is None:
        raise NotFound(f"there is no deployment {ref[:128]!r} in this project; GET /v1/deployments lists those there are")
    return row


def remove(platform: Platform, project: str, ref: str) -> Row[Any]:
    """Take a deployment away. The version stays in the registry.

    Raises:
        NotFound: there is none.
    """
    row = find(platform, project, ref)
    with platform.database.write() as connection:
        connection.execute(delete(deployments).where(deployments.c.id == row.id))
        bump(platform.database, connection, "deployments")
        others = connection.execute(select(deployments.c.id).where(deployments.c.version_id == row.version_id).limit(1)).scalar()
    platform.changes.look()
    if others is None:
        platform.on_loop(platform.center.unload(row.version_id))
    return row


def shown(platform: Platform, row: Row[Any]) -> dict[str, Any]:
    """A deployment as its JSON."""
    state, reason = platform.directory.state(row.version_id)
    return {
        "id": row.id,
        "name": row.name,
        "model": row.model,
        "version": row.version,
        "status": state,
        "error": reason,
        "settings": row.settings,
        "created_at": int(row.created),
        "updated_at": int(row.updated),
    }
