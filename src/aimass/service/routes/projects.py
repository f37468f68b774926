"""Projects: whose data, models and bills are kept apart."""

from __future__ import annotations

import time
from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import Row, select

from aimass.core.errors import Conflict, NotFound
from aimass.core.ids import new_id
from aimass.service.auth import Admin
from aimass.service.changes import bump
from aimass.service.shapes import NAME, Asked, Here, ListOf, Paging, failures, listing, new_router
from aimass.store.paging import fetch
from aimass.store.tables import projects

router = new_router("projects and keys")


class Project(BaseModel):
    """A project."""

    id: str
    object: Literal["project"] = "project"
    name: str
    created_at: int


class NewProject(Asked):
    """What a project is to be called."""

    name: str = Field(pattern=NAME)


@router.post("/v1/projects", response_model=Project, responses=failures(409, 415))
def create(asked: NewProject, caller: Admin, platform: Here) -> Any:
    """Make a project."""
    row: dict[str, Any] = {"id": new_id("proj"), "name": asked.name, "created": time.time()}
    with platform.database.write() as connection:
        statement = platform.database.insert(projects).values(row).on_conflict_do_nothing()
        if connection.execute(statement.returning(projects.c.id)).scalar() is None:
            raise Conflict(f"there is a project {asked.name!r} already; choose another name")
        bump(platform.database, connection, "keys")
    platform.changes.look()
    return {"id": row["id"], "name": asked.name, "created_at": int(row["created"])}


@router.get("/v1/projects", response_model=ListOf[Project], responses=failures())
def list_projects(caller: Admin, platform: Here, page: Paging) -> Any:
    """Every project, newest first."""
    with platform.database.read() as connection:
        rows, more = fetch(connection, select(projects), projects.c.id, page)
    return listing(([_shown(row) for row in rows], more))


@router.get("/v1/projects/{project}", response_model=Project, responses=failures(404))
def show(project: str, caller: Admin, platform: Here) -> Any:
    """One project, by its id or name."""
    return _shown(find_project(platform, project))


def find_project(platform: Any, project: str) -> Row[Any]:
    """A project by id or name.

    Raises:
        NotFound: there is none.
    """
    with platform.database.read() as connection:
        row = connection.execute(select(projects).where((projects.c.id == project) | (projects.c.name == project))).one_or_none()
    if row is None:
        raise NotFound(f"there is no project {project!r}; `aimass projects list` shows those there are, and GET /v1/projects")
    found: Row[Any] = row
    return found


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "created_at": int(row.created)}
