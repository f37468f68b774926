"""The REST API put together: every file in `routes/` brings its part."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from fastapi import FastAPI

from aimass.service import errors, routes
from aimass.service.door import Door
from aimass.service.platform import Platform

_ABOUT = """Data in, a trained, versioned, served and metered model out.

Every request carries a key: `Authorization: Bearer am_<id>_<secret>`. Errors are
`{"error": {"message", "type", "param", "code"}}`; lists are paged by `after`. Every answer has an `x-request-id`; POST requests that create something take an `Idempotency-Key`."""


def build(platform: Platform) -> Door:
    """The ASGI app of a platform that is started.

    Returns:
        the door, behind which everything is.
    """
    from aimass import __version__

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        door.close_streams()

    app = FastAPI(title="AI Mass", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.platform = platform
    errors.install(app)
    for found in sorted(pkgutil.iter_modules(routes.__path__), key=lambda module: module.name):
        app.include_router(import_module(f"{routes.__name__}.{found.name}").router)
    door = Door(app, platform.keys, platform.settings)
    return door
