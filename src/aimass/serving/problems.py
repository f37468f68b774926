"""What the gateway itself refuses, and errors as HTTP has them."""

from __future__ import annotations

import math

import msgspec

from aimass.core.errors import AimassError

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "insufficient_quota"}
_encode = msgspec.json.Encoder().encode

Headers = list[tuple[bytes, bytes]]


class BodyTooSlow(AimassError):
    """The request's body did not come to its end in time."""

    code, http_status, exit_code = "request_timeout", 408, 12


class UnsupportedType(AimassError):
    """The body is of a type that is not read here."""

    code, http_status, exit_code = "unsupported_media_type", 415, 2


class ClientGone(AimassError):
    """Nobody is there to be answered."""

    code, http_status, exit_code = "client_closed_request", 499, 12


def error_body(status: int, message: str, code: str, param: str | None = None) -> bytes:
    """An error as the API has it.

    >>> error_body(415, "send JSON", "unsupported_media_type")
    b'{"error":{"message":"send JSON","type":"invalid_request_error","param":null,"code":"unsupported_media_type"}}'
    """
    kind = _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def response_of(error: AimassError) -> tuple[int, Headers, bytes]:
    """The status, the headers and the body that an error becomes."""
    headers: Headers = []
    if error.http_status == 503:
        wait_s = error.retry_after_s if error.retry_after_s is not None else 1.0
        headers = [(b"retry-after", b"%d" % math.ceil(wait_s)), (b"retry-after-ms", b"%d" % math.ceil(wait_s * 1000))]
    elif error.http_status == 401:
        headers = [(b"www-authenticate", b"Bearer")]
    return error.http_status, headers, error_body(error.http_status, str(error), error.code, error.param)
