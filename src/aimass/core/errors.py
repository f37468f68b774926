"""One tree of errors. Each is a sentence for its reader: what was wrong, what is allowed, what to do.

Every class carries the exit code that the command line ends with and the HTTP status that the service answers with.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class AimassError(Exception):
    """What went wrong, said to a person. `code` is for programs.

    `param` names what it was about, where one thing was. An error that a service answered bears its `status` and the `request_id`
    under which the service's log has it. `retry_after_s` says when trying again may help, where that is known.

    >>> str(DataError("the file is empty"))
    'the file is empty'
    >>> DataError.exit_code
    4
    """

    code = "internal"
    http_status = 500
    exit_code = 1
    param: str | None = None
    status: int | None = None
    request_id: str | None = None
    retry_after_s: float | None = None


class UsageError(AimassError):
    """The call itself was off: an unknown name, a forbidden combination, a number out of range."""

    code, http_status, exit_code = "invalid_request", 400, 2


class DataError(AimassError):
    """The data cannot be read, or not be trained on."""

    code, http_status, exit_code = "invalid_data", 422, 4


class NotFound(AimassError):
    """A run, model or file that is not there."""

    code, http_status, exit_code = "not_found", 404, 5


class StorageError(AimassError):
    """The disk or the memory did not hold what had to be kept."""

    code, http_status, exit_code = "storage", 507, 6


class TrainingError(AimassError):
    """Training could not go on."""

    code, http_status, exit_code = "training_failed", 500, 7


class MissingExtra(AimassError):
    """A feature that needs packages which are not installed."""

    code, http_status, exit_code = "missing_extra", 501, 8


class Unauthorized(AimassError):
    """No key, or one that is unknown or revoked."""

    code, http_status, exit_code = "invalid_api_key", 401, 9


class Forbidden(AimassError):
    """The key is good, and may not do this."""

    code, http_status, exit_code = "permission_denied", 403, 14


class Conflict(AimassError):
    """It does not go together with what is there: a name that is taken, a job that has ended."""

    code, http_status, exit_code = "conflict", 409, 10


class TooLarge(AimassError):
    """More bytes, rows or figures than are taken in."""

    code, http_status, exit_code = "too_large", 413, 13


class QuotaExceeded(AimassError):
    """The budget is used up."""

    code, http_status, exit_code = "insufficient_quota", 429, 11


class Unavailable(AimassError):
    """Nobody can answer just now; trying again is safe, since nothing was done."""

    code, http_status, exit_code = "unavailable", 503, 12


class Cancelled(AimassError):
    """The work was stopped on request."""

    code, http_status, exit_code = "cancelled", 409, 130


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "insufficient_quota"}
_RETRY_S = 1.0


def error_body(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    """The body of an HTTP answer that is an error, in OpenAI's shape.

    >>> error_body(404, "there is no file 'x'", "not_found")["error"]["type"]
    'invalid_request_error'
    """
    kind = _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_headers(error: AimassError) -> dict[str, str]:
    """The headers that go with it: when to try again, and how to say who one is.

    >>> error_headers(Unavailable("no engine is ready"))
    {'retry-after': '1', 'retry-after-ms': '1000'}
    """
    if error.http_status == 401:
        return {"www-authenticate": "Bearer"}
    wait_s = _RETRY_S if error.retry_after_s is None and error.http_status == 503 else error.retry_after_s
    return {} if wait_s is None else {"retry-after": str(max(1, math.ceil(wait_s))), "retry-after-ms": str(math.ceil(wait_s * 1000))}


def unknown_name(kind: str, name: object, known: Iterable[str], *, also: Iterable[str] = ()) -> UsageError:
    """A wrong name answers with the known ones, the nearest first. Other words for them, `also`, may be the nearest, and are not listed.

    >>> str(unknown_name("optimizer", "adm", ["sgd", "adam"]))
    "there is no optimizer 'adm'; did you mean 'adam'? Known: adam, sgd"
    """
    names = sorted(known)
    close = get_close_matches(str(name), [*names, *also], n=1)
    hint = f"; did you mean {close[0]!r}? Known" if close else ". Known"
    return UsageError(f"there is no {kind} {name!r}{hint}: {', '.join(names)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that has named what there is: which of it was meant, where that is likely.

    >>> nearest("acuracy", ["loss", "accuracy"]), nearest("x", ["loss"])
    ("; did you mean 'accuracy'?", '')
    """
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says while `path` is written into a sentence that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"no space is left to write {path}; free some, or point AIMASS_HOME at a larger disk") from error
        if error.errno == errno.EFBIG:
            raise StorageError(f"{path} is larger than this process may write; raise the limit (ulimit -f)") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(f"{path} may not be written; choose a folder that you own, or set AIMASS_HOME") from error
        raise StorageError(f"{path} could not be written ({error.strerror or error}); check the disk and try again") from error
