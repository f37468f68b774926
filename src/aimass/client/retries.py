"""When a request is sent again, and how long to wait before.

A request may be sent again when nothing can have happened: the connection never stood, or the service said that it did nothing
(429, 503). One that is repeatable may also be sent again when nobody knows: it broke, or took too long, or something between answered.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

    from aimass.client.call import Request

_NOTHING_DONE = frozenset({429, 503})
_NOBODY_KNOWS = frozenset({408, 502, 504})
_NEVER = frozenset({"insufficient_quota"})


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often, and how patiently.

    Args:
        most: sendings after the first.
        first_s: the wait before the second; it doubles from there, and each is shortened by chance, so that clients who were turned
            away together do not come back together.
        longest_s: no wait that we choose is longer.
        patience_s: where the service asks for a longer wait than this, its answer is final.
    """

    most: int = 4
    first_s: float = 0.25
    longest_s: float = 8.0
    patience_s: float = 60.0

    def after_error(self, request: Request, attempt: int, error: httpx.RequestError) -> float | None:
        """Seconds to wait before the next sending, or None if there is none.

        Args:
            attempt: how many sendings there were before the one that failed.
        """
        if attempt >= self.most or not (request.is_repeatable or never_left(error)):
            return None
        return self._backoff_s(attempt)

    def after_answer(self, request: Request, attempt: int, status: int, code: str | None, headers: Mapping[str, str]) -> float | None:
        """The same after an answer that is no success."""
        if attempt >= self.most or code in _NEVER:
            return None
        asked_s = asked_wait_s(headers)
        is_under_way = status == 409 and asked_s is not None  # the same request came before, and is being carried out
        if status not in _NOTHING_DONE and not (request.is_repeatable and (status in _NOBODY_KNOWS or is_under_way)):
            return None
        if asked_s is None:
            return self._backoff_s(attempt)
        return asked_s if asked_s <= self.patience_s else None

    def _backoff_s(self, attempt: int) -> float:
        return min(self.longest_s, self.first_s * 2.0**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - chance, not secrecy


def never_left(error: httpx.RequestError) -> bool:
    """Whether a request cannot have reached the service."""
    import httpx

    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """The wait that an answer asks for, in seconds: `retry-after-ms`, or `retry-after` as seconds or as a date.

    >>> asked_wait_s({"retry-after-ms": "250"}), asked_wait_s({"retry-after": "2"}), asked_wait_s({})
    (0.25, 2.0, None)
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait_s = float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
        if 0 <= wait_s < float("inf"):
            return wait_s
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return None
