"""What the gateway itself refuses, and errors as HTTP has them."""

from __future__ import annotations

import msgspec

from aimass.core.errors import AimassError, error_body, error_headers

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


def problem(status: int, message: str, code: str, param: str | None = None) -> bytes:
    """An error as the API has it.

    >>> problem(415, "send JSON", "unsupported_media_type")
    b'{"error":{"message":"send JSON","type":"invalid_request_error","param":null,"code":"unsupported_media_type"}}'
    """
    return _encode(error_body(status, message, code, param))


def response_of(error: AimassError) -> tuple[int, Headers, bytes]:
    """The status, the headers and the body that an error becomes."""
    headers: Headers = [(name.encode(), value.encode()) for name, value in error_headers(error).items()]
    return error.http_status, headers, problem(error.http_status, str(error), error.code, error.param)
