"""The interactive documentation, whose parts come from a package: it needs no network."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)
_PARTS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}


@router.get("/")
async def home() -> RedirectResponse:
    """What a person finds who opens the service's address."""
    return RedirectResponse("/docs")


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The page."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="AI Mass",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon.png",
        swagger_ui_parameters={"persistAuthorization": True, "tryItOutEnabled": True},
    )


@router.get("/docs/{name}")
def part(name: str) -> Response:
    """A part of the page."""
    if name not in _PARTS:
        raise HTTPException(404)
    content = Path(str(files("fastapi_offline") / "static" / name)).read_bytes()
    return Response(content, media_type=_PARTS[name], headers={"cache-control": "public, max-age=86400"})
