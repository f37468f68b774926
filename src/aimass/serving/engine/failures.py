"""What an engine says when it cannot answer."""

from __future__ import annotations

from aimass.core.errors import AimassError, Unavailable
from aimass.serving.problems import problem

MODEL_NOT_LOADED = "model_not_loaded"
MODEL_OUTPUT = "model_output"


def failure_of(error: AimassError) -> tuple[int, bytes]:
    """The status and the body that an error becomes."""
    return error.http_status, problem(error.http_status, str(error), error.code, error.param)


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
