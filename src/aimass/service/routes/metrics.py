"""`/metrics`, as Prometheus reads it."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from aimass.core.errors import AimassError
from aimass.service.auth import admin_of
from aimass.service.figures import Figures
from aimass.service.shapes import Here, failures, new_router

router = new_router("health")
_LOOPBACK = ("127.", "::1", "::ffff:127.")


@router.get(
    "/metrics",
    responses={**failures(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_class=Response,
)
async def metrics(request: Request, platform: Here) -> Any:
    """The figures of this service. From another machine it takes an admin's key."""
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    host = request.client.host if request.client is not None else ""
    if not host.startswith(_LOOPBACK) or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        admin_of(request)
    figures: Figures = request.app.state.figures
    try:
        kept = await run_in_threadpool(generate_latest, figures.kept)
    except AimassError:  # a database that is away hides nothing of the rest
        kept = b""
    return Response(generate_latest(figures.here) + kept, media_type=CONTENT_TYPE_LATEST)
