"""What an engine says when it cannot answer."""

from __future__ import annotations

import msgspec

from aimass.core.errors import AimassError, Unavailable

MODEL_NOT_LOADED = "model_not_loaded"
MODEL_OUTPUT = "model_output"

_encode = msgspec.json.Encoder().encode


def failure(status: int, message: str, code: str, param: str | None = None) -> bytes:
    """The body of an error, as the API has it.

    >>> failure(422, "row 0: ...", "invalid_data", "instances[0].age")  # doctest: +ELLIPSIS
    b'{"error":{"message":"row 0: ...","type":"invalid_request_error","param":"instances[0].age","code":"invalid_data"}}'
    """
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def failure_of(error: AimassError) -> tuple[int, bytes]:
    """The status and the body that an error becomes."""
    return error.http_status, failure(error.http_status, str(error), error.code, error.param)


def about(error: AimassError, param: str) -> AimassError:
    """The error, bearing which field of the request is at fault."""
    error.param = param
    return error


class NotLoaded(Unavailable):
    """The engine does not hold the model: load it, or ask another engine."""

    code = MODEL_NOT_LOADED


class ModelOutput(AimassError):
    """The network gave something that is no answer."""

    code = MODEL_OUTPUT
