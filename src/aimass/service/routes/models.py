"""Models as OpenAI's clients list them: what the project has in its registry and under which names it answers."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy import Connection, select

from aimass.core.errors import NotFound
from aimass.service.auth import Inference
from aimass.service.shapes import Here, ListOf, failures, listing, new_router
from aimass.serving.ports import Caller
from aimass.store.tables import deployments, models, projects

router = new_router("models")


class Model(BaseModel):
    """A model's name, in OpenAI's shape."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


@router.get("/v1/models", response_model=ListOf[Model], responses=failures())
def list_models(
    caller: Inference,
    platform: Here,
    after: str | None = Query(None, max_length=200),
    limit: int = Query(1000, ge=1, le=10_000),
) -> Any:
    """The names of the project's models and deployments, newest first."""
    with platform.database.read() as connection:
        found = _named(connection, caller)
    names = [model["id"] for model in found]
    start = names.index(after) + 1 if after in names else 0
    return listing((found[start : start + limit], len(found) > start + limit))


@router.get("/v1/models/{name}", response_model=Model, responses=failures(404))
def show(name: str, caller: Inference, platform: Here) -> Any:
    """One of them."""
    with platform.database.read() as connection:
        found = _named(connection, caller)
    model = next((model for model in found if model["id"] == name), None)
    if model is None:
        raise NotFound(f"there is no model {name[:128]!r} in this project; GET /v1/models lists those there are")
    return model


def _named(connection: Connection, caller: Caller) -> list[dict[str, Any]]:
    """Names of models, and of deployments that are called otherwise."""
    owner = connection.execute(select(projects.c.name).where(projects.c.id == caller.project)).scalar_one()
    kept = connection.execute(select(models.c.name, models.c.created).where(models.c.project_id == caller.project)).all()
    called = connection.execute(select(deployments.c.name, deployments.c.created).where(deployments.c.project_id == caller.project)).all()
    created = {row.name: row.created for row in [*called, *kept]}
    return [
        {"id": name, "object": "model", "created": int(time), "owned_by": owner}
        for name, time in sorted(created.items(), key=lambda item: (-item[1], item[0]))
    ]
