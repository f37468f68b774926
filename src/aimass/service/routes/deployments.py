"""Deployments: the versions that answer requests, and under which names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from aimass.core.errors import UsageError
from aimass.service import deployments
from aimass.service.auth import Member
from aimass.service.shapes import NAME, Asked, Deleted, Here, ListOf, Paging, failures, listing, new_router

router = new_router("deployments and engines")


class Settings(Asked):
    """How a deployment answers."""

    latency_ms: float | None = Field(None, gt=0, le=600_000, description="what a request should take at most; batches shrink to meet it")
    max_batch: int | None = Field(None, ge=1, le=100_000, description="the most rows that are computed at once")


class NewDeployment(Asked):
    """What is to answer: a model's newest version, or the one that a number or an alias names."""

    model: str = Field(pattern=NAME)
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    alias: str | None = Field(None, min_length=1, max_length=64)
    name: str | None = Field(None, pattern=NAME, description="what requests call it; the model's name if not given")
    settings: Settings | None = None


class Deployment(BaseModel):
    """A version that answers under a name."""

    id: str
    object: Literal["deployment"] = "deployment"
    name: str
    model: str
    version: int
    status: Literal["ready", "loading", "failed"]
    error: str | None = None
    settings: dict[str, Any]
    created_at: int
    updated_at: int


@router.post("/v1/deployments", response_model=Deployment, responses=failures(404, 409, 415, 503))
def create(
    asked: NewDeployment, caller: Member, platform: Here, wait: Annotated[bool, Query(description="until an engine has loaded it")] = True
) -> Any:
    """Let a version answer under a name. A name that answers already moves to it in one step."""
    if asked.version is not None and asked.alias is not None:
        raise UsageError("give either 'version' or 'alias', not both")
    settings = {} if asked.settings is None else asked.settings.model_dump(exclude_none=True)
    ref = asked.version if asked.alias is None else asked.alias
    return deployments.deploy(platform, caller.project, model=asked.model, ref=ref, name=asked.name, settings=settings, wait=wait)


@router.get("/v1/deployments", response_model=ListOf[Deployment], responses=failures())
def list_deployments(caller: Member, platform: Here, page: Paging) -> Any:
    """The project's deployments, newest first."""
    return listing(deployments.listed(platform, caller.project, page))


@router.get("/v1/deployments/{deployment}", response_model=Deployment, responses=failures(404))
def show(deployment: str, caller: Member, platform: Here) -> Any:
    """One deployment, by its id or name."""
    return deployments.shown(platform, deployments.find(platform, caller.project, deployment))


@router.delete("/v1/deployments/{deployment}", response_model=Deleted, responses=failures(404, 503))
def remove(deployment: str, caller: Member, platform: Here) -> Any:
    """End a deployment. Requests that are under way are answered."""
    return {"id": deployments.remove(platform, caller.project, deployment).id, "object": "deployment"}
