"""What routes share: the shape of lists and errors, the question for a page, the platform behind a request."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from aimass.store.paging import Page

if TYPE_CHECKING:
    from aimass.service.platform import Platform

T = TypeVar("T")

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
"""What models, deployments and projects may be called."""
DAY = 4_102_444_800
"""The last second that is taken for a time: the end of the year 2099."""


class Asked(BaseModel):
    """The base of what clients send: no unknown names, no numbers beyond all bounds."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ListOf(BaseModel, Generic[T]):
    """One page of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class Deleted(BaseModel):
    """What was deleted."""

    id: str
    object: str
    deleted: Literal[True] = True


class ErrorDetail(BaseModel):
    """What was wrong, what is allowed, what to do."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ErrorDetail


class PlainError(BaseModel):
    """The body of every error under `/v2`: the Open Inference Protocol has a sentence there."""

    error: str
    code: str


def listing(found: tuple[Sequence[dict[str, Any]], bool], name: str = "id") -> dict[str, Any]:
    """A page as its JSON."""
    rows, more = found
    ends = (rows[0][name], rows[-1][name]) if rows else (None, None)
    return {"object": "list", "data": list(rows), "first_id": ends[0], "last_id": ends[1], "has_more": more}


_ALWAYS = (400, 401, 403, 408, 413, 422, 500, 507)


def failures(*more: int, model: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, for its documentation: the usual ones and `more`.

    Their one shape is named where the first stands; the others refer to it, which spares the service most of the work of its start.
    """
    first, *others = sorted({*_ALWAYS, *more})
    known = {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}}
    return {first: {"model": model}, **dict.fromkeys(others, known)}


class _StrictRequest(Request):
    """JSON as it is written down: no NaN, no infinity, no texts that are not Unicode."""

    async def json(self) -> Any:
        body = await self.body()
        try:
            return json.loads(body, parse_constant=_no_number)
        except (UnicodeDecodeError, RecursionError, _NoNumber) as error:
            said = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise json.JSONDecodeError(said, "", 0) from None


class _NoNumber(ValueError):
    pass


def _no_number(text: str) -> None:
    raise _NoNumber(f"{text} is no number in JSON")


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict


def new_router(tag: str) -> APIRouter:
    """A router whose routes read JSON strictly.

    Args:
        tag: the group under which /docs shows them.
    """
    return APIRouter(tags=[tag], route_class=_StrictRoute)


async def _platform(request: Request) -> Platform:
    found: Platform = request.app.state.platform
    return found


async def _page(
    after: Annotated[str | None, Query(max_length=200, description="the id that the page before ended with")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Literal["asc", "desc"], Query(description="desc: newest first")] = "desc",
) -> Page:
    return Page(after=after, limit=limit, order=order)


Paging = Annotated[Page, Depends(_page)]
Here = Annotated[Any, Depends(_platform)]
"""The platform that answers."""
