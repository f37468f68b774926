"""Errors as the API tells them: `{"error": {"message", "type", "param", "code"}}`, with the request's id in a header."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from aimass.core.errors import AimassError, error_body, error_headers

_CODES = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
}


def answer(error: AimassError) -> JSONResponse:
    """One of our errors as a response."""
    return JSONResponse(error_body(error.http_status, str(error), error.code, error.param), error.http_status, error_headers(error))


def refusal(error: HTTPException) -> JSONResponse:
    """What was refused before the routes saw it, as a response."""
    status = error.status_code
    return JSONResponse(error_body(status, str(error.detail), _CODES.get(status, "http_error")), status, error.headers)


def install(app: FastAPI) -> None:
    """Let every error of an app have the one shape."""
    app.add_exception_handler(AimassError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AimassError)
    return answer(error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """What does not fit the documented form: the first thing that is wrong, by its name."""
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    where = [str(part) for part in problem["loc"]]
    if problem["type"] == "json_invalid":
        said = problem["ctx"]["error"]
        return JSONResponse(
            error_body(400, f"the body is not JSON ({said} at character {where[-1]}); send a JSON object", "invalid_json"), 400
        )
    if where == ["body"] and not _is_json(request):
        sent = request.headers.get("content-type") or "none"
        message = f"the content type is {sent[:100]!r}; send JSON, with the header 'Content-Type: application/json'"
        return JSONResponse(error_body(415, message, _CODES[415]), 415)
    name = ".".join(where[1:]) or "the body"
    reason = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = f"{name}: {reason[:1].lower()}{reason[1:]}"
    if problem["type"] == "missing":
        message = f"{name} is needed"
    elif problem["type"] == "extra_forbidden":
        message = f"{name} is not known here; /docs lists what is"
    return JSONResponse(error_body(422, message[:2000], "invalid_request", name if len(where) > 1 else None), 422)


def _is_json(request: Request) -> bool:
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return sent == "application/json" or (sent.startswith("application/") and sent.endswith("+json"))


async def _plain(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: an unknown route, a method that it does not have, a body that it cannot read."""
    assert isinstance(error, HTTPException)
    status, message = error.status_code, str(error.detail)
    if message == HTTPStatus(status).phrase:
        what = f"{request.method} {request.url.path[:200]}"
        message = {404: f"there is no {what}; /docs lists what there is", 405: f"{what} is not allowed; /docs lists what is"}.get(
            status, message
        )
    return JSONResponse(error_body(status, message, _CODES.get(status, "http_error")), status, error.headers)


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    """A fault of ours. The door logs it under the request's id; the answer has nothing of it."""
    return unexpected()


def unexpected() -> JSONResponse:
    """The answer to a fault of ours."""
    message = "the service met an error of its own; its log has it under this x-request-id"
    return JSONResponse(error_body(500, message, "internal"), 500)
