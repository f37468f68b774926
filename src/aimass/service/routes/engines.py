"""Prediction Engines: their state, load, latency, memory and history."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from aimass.service.auth import Admin
from aimass.service.shapes import Here, ListOf, failures, listing, new_router

router = new_router("deployments and engines")


class HeldModel(BaseModel):
    """A model that an engine holds."""

    name: str
    version: int
    bytes: int


class Load(BaseModel):
    """What an engine has to do just now."""

    queued_rows: int
    in_flight: int
    predicted_ms: float


class Latency(BaseModel):
    """How long the engine's latest answers took."""

    p50: float | None
    p99: float | None


class Happened(BaseModel):
    """Something that happened to an engine."""

    time: float
    type: str
    data: dict[str, Any]


class Engine(BaseModel):
    """A process that holds models and answers."""

    id: str
    object: Literal["engine"] = "engine"
    state: Literal["starting", "ready", "busy", "lost", "stopped"]
    pid: int | None
    models: list[HeldModel]
    load: Load
    latency_ms: Latency
    requests: int
    memory_bytes: int | None
    budget_bytes: int
    started_at: float | None
    history: list[Happened]


@router.get("/v1/engines", response_model=ListOf[Engine], responses=failures())
async def list_engines(caller: Admin, platform: Here) -> Any:
    """The engines of the service that answers."""
    return listing((platform.center.engines(), False))
