"""A call, described once and carried out by either transport: what is asked, and how the answer is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

if TYPE_CHECKING:
    import httpx

    from aimass.client.multipart import Form

R = TypeVar("R")
Progress = Callable[[int, int], None]
"""Called with the bytes that have gone, and with how many there are."""

_SLOW_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, the same however often it is sent.

    Args:
        path: under the service's address, such as `/v1/files`.
        query: what stands behind the `?`; None is left out.
        content: the body.
        form: a body that is sent from files.
        is_repeatable: it may be sent again although the first may have been carried out. All but predictions are: what creates bears an
            `Idempotency-Key`, made once for all its sendings.
        limit_s: the longest wait for the answer to begin or go on, where it is not the client's own.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    form: Form | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = True
    limit_s: float | None = None

    @property
    def given(self) -> dict[str, str | list[str]]:
        """The query without what was not given."""
        return {name: _written(value) for name, value in self.query.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Call(Generic[R]):
    """A request, and what its answer means.

    Args:
        read: makes of a whole answer what the caller gets.
        into: a file for the body of the answer, which appears when it is whole.
        progress: told while that body arrives.
    """

    request: Request
    read: Callable[[httpx.Response], R]
    into: Path | None = None
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class Listing(Generic[R]):
    """A list that comes page by page.

    Args:
        read: makes of an entry what the caller gets.
        limit: the most entries that are wanted in all; None for every one.
    """

    request: Request
    read: Callable[[dict[str, Any]], R]
    limit: int | None = None


def get(path: str, **query: Any) -> Request:
    """A question."""
    return Request(method="GET", path=path, query=query)


def create(path: str, values: Mapping[str, Any] | None = None, *, limit_s: float | None = _SLOW_S, **query: Any) -> Request:
    """Something new. What was not given (None) is left out of the body."""
    return _with_body("POST", path, values, query, limit_s, {"idempotency-key": new_key()})


def put(path: str, values: Mapping[str, Any]) -> Request:
    """Something set to what it shall be."""
    return _with_body("PUT", path, values, {}, None, {})


def remove(path: str) -> Request:
    """Something taken away."""
    return Request(method="DELETE", path=path)


def _with_body(
    method: str, path: str, values: Mapping[str, Any] | None, query: Mapping[str, Any], limit_s: float | None, headers: dict[str, str]
) -> Request:
    content = encode({name: value for name, value in (values or {}).items() if value is not None})
    return Request(
        method=method, path=path, query=query, content=content, headers={"content-type": "application/json", **headers}, limit_s=limit_s
    )


def new_key() -> str:
    """A key that makes every sending of a request the same request."""
    return uuid4().hex


def encode(value: Any) -> bytes:
    """JSON. Arrays and scalars of numpy, and whatever else has a `tolist`, are written as what they hold; NaN as null.

    >>> import numpy
    >>> encode({"age": numpy.float32(41), "pixels": numpy.zeros(2), "plan": "gold"})
    b'{"age":41.0,"pixels":[0.0,0.0],"plan":"gold"}'
    """
    import msgspec

    return msgspec.json.encode(value, enc_hook=_plain)


def part(name: object) -> str:
    """A name as one step of a path, whatever it holds.

    >>> part("a/../b")
    'a%2F..%2Fb'
    """
    return quote(str(name), safe="")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


def _written(value: Any) -> str | list[str]:
    if isinstance(value, bool):
        return str(value).lower()
    return [str(inner) for inner in value] if isinstance(value, list | tuple) else str(value)
