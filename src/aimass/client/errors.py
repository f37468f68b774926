"""What went wrong at the service, as the error that the same thing raises in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aimass.core.errors import AimassError, Unavailable

if TYPE_CHECKING:
    import httpx

_LONGEST = 500


def error_from(response: httpx.Response) -> AimassError:
    """The error that an answer tells of: its class by `code`, else by status; its message and `code` as the service gave them."""
    told = _told(response)
    code, message = told.get("code"), told.get("message") or _unexplained(response)
    error = _class_for(code, response.status_code)(message)
    if code is not None and code != error.code:
        error.code = str(code)
    error.param, error.status = told.get("param"), response.status_code
    error.request_id = response.headers.get("x-request-id")
    return error


def code_of(response: httpx.Response) -> str | None:
    """The `code` that an answer bears."""
    code = _told(response).get("code")
    return None if code is None else str(code)


def error_named(code: str | None, message: str) -> AimassError:
    """The error of a code, such as a job keeps that has failed."""
    error = _class_for(code, 500)(message)
    if code is not None and code != error.code:
        error.code = code
    return error


def no_answer(url: str, error: httpx.RequestError, limit_s: float | None, *, is_repeatable: bool = True) -> AimassError:
    """What to say when no answer came at all.

    Args:
        is_repeatable: whether asking again does nothing twice.
    """
    import httpx

    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        why = "" if _is_refused(error) else f" ({_reason(error)})"
        return Unavailable(f"no service answers at {url}{why}; start one with `aimass up`, or log in elsewhere with `aimass login`")
    doubt = "" if is_repeatable else ". It may have been answered and charged: with an idempotency_key it can be asked again safely"
    if isinstance(error, httpx.TimeoutException):
        within = f" within {limit_s:g} s" if limit_s else " in time"
        return Unavailable(f"{url} did not answer{within}; it may be busy: ask again, or give the client a longer timeout_s{doubt}")
    return Unavailable(f"the connection to {url} broke before the answer was whole ({_reason(error)}); ask again{doubt}")


def _class_for(code: object, status: int) -> type[AimassError]:
    classes = list(_tree(AimassError))
    by_code = [kind for kind in classes if kind.code == code]
    by_status = [kind for kind in classes if kind.http_status == status]
    return (by_code or by_status or [AimassError])[0]


def _tree(kind: type[AimassError]) -> Iterator[type[AimassError]]:
    """The errors of `core/errors.py`; what other rooms make of them is not for callers of a service."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == AimassError.__module__:
            yield from _tree(below)


def _told(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    told = body.get("error") if isinstance(body, dict) else None
    return told if isinstance(told, dict) else {}


def _unexplained(response: httpx.Response) -> str:
    where = f"{response.request.method} {response.request.url.copy_with(query=None)}"
    said = " ".join(response.text.split())[:_LONGEST]
    moved = response.headers.get("location")
    hint = f", and points to {moved}: log in there" if moved else f": {said}" if said else ""
    return f"{where} answered {response.status_code} {response.reason_phrase}".rstrip() + hint


def _is_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionRefusedError) or "refused" in str(error).lower() or "attempts failed" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
