"""Which requests are predictions: `POST /v1/models/{name}[/versions/{n}]:predict` and `POST /v2/models/{name}[/versions/{n}]/infer`."""

from __future__ import annotations

from typing import NamedTuple

_LONGEST = 1000
_KEPT = 4096


class Route(NamedTuple):
    """What a path asks for: the kind of request, the deployment's name, and the version where one is named."""

    kind: str
    name: str
    version: str | None


def match(path: str) -> Route | None:
    """What a path means, once its quotes are undone; None for one that is not a prediction's.

    >>> match("/v1/models/churn:predict")
    Route(kind='predict', name='churn', version=None)
    >>> match("/v2/models/churn/versions/3/infer")
    Route(kind='infer', name='churn', version='3')
    >>> match("/v1/models/churn") is None
    True
    """
    if len(path) > _LONGEST:
        return None
    if path.startswith("/v1/models/") and path.endswith(":predict"):
        kind, inside = "predict", path[11:-8]
    elif path.startswith("/v2/models/") and path.endswith("/infer"):
        kind, inside = "infer", path[11:-6]
    else:
        return None
    parts = inside.split("/")
    if not all(parts):
        return None
    if len(parts) == 1:
        return Route(kind, parts[0], None)
    return Route(kind, parts[0], parts[2]) if len(parts) == 3 and parts[1] == "versions" else None


class Paths:
    """`match`, with what was found kept.

    >>> paths = Paths()
    >>> paths.match("/v1/models/churn:predict") is paths.match("/v1/models/churn:predict")
    True
    """

    def __init__(self) -> None:
        self._known: dict[str, Route] = {}

    def match(self, path: str) -> Route | None:
        """As the function of this name."""
        known = self._known.get(path)
        if known is None:
            known = match(path)
            if known is not None and len(self._known) < _KEPT:
                self._known[path] = known
        return known
