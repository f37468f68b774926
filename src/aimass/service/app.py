"""The app put together: the gateway before the door, the door before the routes; every file in `routes/` brings its part."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from fastapi import FastAPI

from aimass.service import errors, routes
from aimass.service.door import Door
from aimass.service.figures import figures
from aimass.service.once import Once
from aimass.service.platform import Platform
from aimass.serving.gateway import Gateway
from aimass.serving.plain_errors import PlainErrors

_ABOUT = """Data in, a trained, versioned, served and metered model out.

Every request carries a key: `Authorization: Bearer am_<id>_<secret>`. Errors are
`{"error": {"message", "type", "param", "code"}}`, and under `/v2` `{"error": "a sentence", "code"}`; lists are paged by `after`. Every
answer has an `x-request-id`. POST requests that create something take an `Idempotency-Key`: the same request under the same key is
done once."""


def build(platform: Platform) -> PlainErrors:
    """The ASGI app of a platform that is started.

    Returns:
        the gateway, which answers predictions itself; everything else is behind it.
    """
    settings = platform.settings
    app = rest(platform)
    door = Door(Once(app, platform.answers, platform.keys), platform.keys, settings, platform.leaving)
    gateway = Gateway(
        door, platform.directory, platform.meter, platform.center, max_body=settings.max_body, body_limit_s=settings.body_timeout
    )
    app.state.figures = figures(platform, gateway)
    return PlainErrors(gateway)


def rest(platform: Platform) -> FastAPI:
    """The routes alone."""
    from aimass import __version__

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await platform.open()
        try:
            yield
        finally:
            await platform.shut()

    app = FastAPI(
        title="AI Mass", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.state.platform = platform
    errors.install(app)
    for found in sorted(pkgutil.iter_modules(routes.__path__), key=lambda module: module.name):
        app.include_router(import_module(f"{routes.__name__}.{found.name}").router)
    return app
