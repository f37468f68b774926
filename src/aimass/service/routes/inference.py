"""The Open Inference Protocol, V2: health, metadata, readiness and the repository. Inference itself is in `predict.py`.

Source: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import BaseModel

from aimass.core.errors import Unavailable
from aimass.service.auth import Inference, Member
from aimass.service.shapes import Here, PlainError, failures, new_router
from aimass.serving import oip
from aimass.serving.ports import Target

router = new_router("open inference protocol")
_EXTENSIONS = ["binary_tensor_data", "model_repository"]


class Server(BaseModel):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """The process lives."""

    live: bool


class ServerReady(BaseModel):
    """Requests can be answered."""

    ready: bool


class Tensor(BaseModel):
    """An input or an output of a model."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None


class Metadata(BaseModel):
    """What a model takes, and what it gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class ModelReady(BaseModel):
    """Whether a model lies on an engine."""

    name: str
    ready: bool


class Entry(BaseModel):
    """A deployment in the repository."""

    name: str
    version: str
    state: str
    reason: str


_NOT_THERE = failures(404, 503, model=PlainError)
_UNREADY: dict[int | str, dict[str, Any]] = {503: {"model": ServerReady}}
_MODEL_UNREADY: dict[int | str, dict[str, Any]] = {**failures(404, model=PlainError), 503: {"model": ModelReady | PlainError}}


@router.get("/v2", response_model=Server)
async def server() -> Any:
    """The server. Needs no key."""
    from aimass import __version__

    return {"name": oip.PLATFORM, "version": __version__, "extensions": _EXTENSIONS}


@router.get("/v2/health/live", response_model=Live)
async def live() -> Any:
    """The process lives. Needs no key."""
    return {"live": True}


@router.get("/v2/health/ready", response_model=ServerReady, responses=_UNREADY)
def ready(platform: Here, response: Response) -> Any:
    """Requests can be answered. Needs no key."""
    is_ready = not platform.problems()
    response.status_code = 200 if is_ready else 503
    return {"ready": is_ready}


@router.get("/v2/models/{name}", response_model=Metadata, response_model_exclude_none=True, responses=_NOT_THERE)
async def metadata(name: str, caller: Inference, platform: Here) -> Any:
    """What a model takes, and what it gives."""
    return _metadata(platform.directory.target(caller, name, None))


@router.get(
    "/v2/models/{name}/versions/{version}",
    response_model=Metadata,
    response_model_exclude_none=True,
    responses=_NOT_THERE,
)
async def version_metadata(name: str, version: str, caller: Inference, platform: Here) -> Any:
    """The same, provided that the name stands for this version."""
    return _metadata(platform.directory.target(caller, name, version))


@router.get("/v2/models/{name}/ready", response_model=ModelReady, responses=_MODEL_UNREADY)
async def model_ready(name: str, caller: Inference, platform: Here, response: Response) -> Any:
    """Whether a model lies on an engine. One that does not is loaded by the first request for it."""
    return _readiness(platform, platform.directory.target(caller, name, None), response)


@router.get("/v2/models/{name}/versions/{version}/ready", response_model=ModelReady, responses=_MODEL_UNREADY)
async def version_ready(name: str, version: str, caller: Inference, platform: Here, response: Response) -> Any:
    """The same, provided that the name stands for this version."""
    return _readiness(platform, platform.directory.target(caller, name, version), response)


@router.post("/v2/repository/index", response_model=list[Entry], responses=failures(model=PlainError))
async def index(caller: Inference, platform: Here) -> Any:
    """The deployments of the project, and which of them lie on an engine."""
    found = []
    for target in platform.directory.targets(caller.project):
        is_loaded = platform.center.is_loaded(target.version_id)
        found.append({"name": target.name, "version": str(target.version), "state": "READY" if is_loaded else "UNAVAILABLE", "reason": ""})
    return found


@router.post("/v2/repository/models/{name}/load", response_model=ModelReady, responses=_NOT_THERE)
async def load(name: str, caller: Member, platform: Here) -> Any:
    """Have a deployed model on an engine."""
    target = platform.directory.target(caller, name, None)
    await platform.center.load(target)
    return {"name": name, "ready": True}


@router.post("/v2/repository/models/{name}/unload", response_model=ModelReady, responses=_NOT_THERE)
async def unload(name: str, caller: Member, platform: Here) -> Any:
    """Take a model off the engines, once they have answered what they have of it. The next request loads it again."""
    target = platform.directory.target(caller, name, None)
    await platform.center.unload(target.version_id)
    return {"name": name, "ready": False}


def _metadata(target: Target) -> dict[str, Any]:
    if not target.signature:
        raise Unavailable(f"{target.name!r} has no signature; publish and deploy it again")
    return oip.metadata(target.name, [target.version], target.signature)


def _readiness(platform: Any, target: Target, response: Response) -> dict[str, Any]:
    is_loaded = platform.center.is_loaded(target.version_id)
    response.status_code = 200 if is_loaded else 503
    return {"name": target.name, "ready": is_loaded}
