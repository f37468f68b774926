"""Whether the service lives, and whether it can answer."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel

from aimass.service.shapes import Here, new_router

router = new_router("health")


class Alive(BaseModel):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether requests can be answered, and if not, why."""

    status: Literal["ready", "not_ready"]
    problems: list[str]


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Readiness}}


@router.get("/health/live", response_model=Alive)
async def live() -> Any:
    """The process lives. Needs no key."""
    return {}


@router.get("/health/ready", response_model=Readiness, responses=_NOT_READY)
def ready(platform: Here, response: Response) -> Any:
    """The database answers. Needs no key."""
    problems = platform.problems()
    response.status_code = 503 if problems else 200
    return {"status": "not_ready" if problems else "ready", "problems": problems}
