"""Usage and costs over time, in the shapes of OpenAI's organization API: pages of buckets, each with results by group."""

from __future__ import annotations

import re
import time as clocks
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, cast, func, select

from aimass.billing import prices
from aimass.billing.money import MICRO
from aimass.billing.periods import DAY_S
from aimass.billing.usage import whole
from aimass.core.errors import UsageError, unknown_name
from aimass.store import tables

WIDTHS_S = {"1m": 60, "1h": 3_600, "1d": DAY_S}
_LIMITS = {"1m": (60, 1_440), "1h": (24, 168), "1d": (7, 31)}  # by width: the default, and the most
_COST_LIMITS = (7, 180)
_LATEST = 253_402_300_799

_row = tables.usage_events.c
_USAGE_GROUPS = {"project_id": _row.project_id, "api_key_id": _row.key_id, "model": _row.model}
_COST_GROUPS = {"project_id": _row.project_id, "api_key_id": _row.key_id, "line_item": _row.item}
_NEVER = ("user_id", "batch", "service_tier", "api_source")  # groups of OpenAI's that this service has none of: they are null


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Which buckets are asked for; the names and meanings are OpenAI's.

    Args:
        start_time: Unix seconds; the first bucket holds it.
        end_time: Unix seconds, outside; now by default.
        limit: buckets a page.
        page: `next_page` of the page before.
    """

    start_time: int
    end_time: int | None = None
    bucket_width: str = "1d"
    limit: int | None = None
    page: str | None = None
    project_ids: Sequence[str] | None = None
    api_key_ids: Sequence[str] | None = None
    models: Sequence[str] | None = None
    line_items: Sequence[str] | None = None
    group_by: Sequence[str] | None = None


def usage(connection: Connection, what: str, asked: Buckets, *, now: float | None = None) -> dict[str, Any]:
    """A page of usage.

    Args:
        what: `predictions`, `training`, or `completions`, in which every answered request is a model request without tokens.

    Raises:
        UsageError: an unknown width, group, page or range.
    """
    if what not in _RESULTS:
        raise unknown_name("kind of usage", what, _RESULTS)
    kind, result = _RESULTS[what]
    default, most = _LIMITS.get(asked.bucket_width, (1, 1))
    return _page(connection, asked, _USAGE_GROUPS, (default, most), [_row.kind == kind], result, now)


def costs(connection: Connection, asked: Buckets, *, now: float | None = None) -> dict[str, Any]:
    """A page of costs.

    Raises:
        UsageError: an unknown width, group, page or range.
    """
    return _page(connection, asked, _COST_GROUPS, _COST_LIMITS, [], _cost, now)


def _page(
    connection: Connection,
    asked: Buckets,
    known: dict[str, Any],
    limits: tuple[int, int],
    conditions: list[ColumnElement[bool]],
    result: Callable[[Row[Any]], dict[str, Any]],
    now: float | None,
) -> dict[str, Any]:
    width, begin, end, following = _range(asked, limits, clocks.time() if now is None else now)
    groups = _groups(asked.group_by, known)
    bucket = _bucket(connection, begin, width)
    figures = [func.count().label("requests"), whole(_row.quantity).label("quantity"), whole(_row.amount_micro).label("micro")]
    by = [known[name].label(name) for name in groups if name in known]
    query = select(bucket.label("bucket"), func.min(_row.unit).label("unit"), *figures, *by)
    chosen = [_row.time >= begin, _row.time < end, _row.credited.is_(False), *conditions, *_choices(asked)]
    results: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(query.where(*chosen).group_by(bucket, *(known[name] for name in groups if name in known))):
        empty = dict.fromkeys((*known, *_NEVER))
        grouped = {name: getattr(row, name) for name in groups if name in known}
        results.setdefault(int(row.bucket), []).append({**empty, **result(row), **grouped})
    data = [
        {
            "object": "bucket",
            "start_time": at,
            "end_time": min(at + width, end),
            "results": _ordered(results.get((at - begin) // width, [])),
        }
        for at in range(begin, end, width)
    ]
    return {"object": "page", "data": data, "has_more": following is not None, "next_page": following}


def _range(asked: Buckets, limits: tuple[int, int], now: float) -> tuple[int, int, int, str | None]:
    """The width, the first second and the last of a page, and the name of the next."""
    width = WIDTHS_S.get(asked.bucket_width)
    if width is None:
        raise unknown_name("bucket_width", asked.bucket_width, WIDTHS_S)
    default, most = limits
    limit = default if asked.limit is None else asked.limit
    if not 1 <= limit <= most:
        raise UsageError(f"limit={limit}: a page of {asked.bucket_width} buckets has 1 to {most}")
    end = int(now) + 1 if asked.end_time is None else asked.end_time
    if not (0 <= asked.start_time <= _LATEST and 0 <= end <= _LATEST):
        raise UsageError(f"start_time and end_time are Unix seconds, from 0 to {_LATEST}")
    if end <= asked.start_time and asked.end_time is not None:
        raise UsageError(f"end_time={end} is not after start_time={asked.start_time}")
    begin = asked.start_time // width * width
    if asked.page is not None:
        match = re.fullmatch(r"page_(\d{1,12})", asked.page, re.ASCII)
        if match is None or not begin <= int(match[1]) < end:
            raise UsageError(f"page={asked.page!r} is no page of this list; give the next_page of the page before")
        begin = int(match[1]) // width * width
    stop = begin + limit * width
    return (width, begin, stop, f"page_{stop}") if stop < end else (width, begin, max(end, begin), None)


def _groups(names: Sequence[str] | None, known: dict[str, Any]) -> list[str]:
    for name in names or ():
        if name not in known and name not in _NEVER:
            raise unknown_name("group", name, [*known, *_NEVER])
    return list(dict.fromkeys(names or ()))


def _choices(asked: Buckets) -> list[ColumnElement[bool]]:
    pairs = (
        (_row.project_id, asked.project_ids),
        (_row.key_id, asked.api_key_ids),
        (_row.model, asked.models),
        (_row.item, asked.line_items),
    )
    return [column.in_(list(values)) for column, values in pairs if values]


def _bucket(connection: Connection, begin: int, width: int) -> ColumnElement[int]:
    """The number of the bucket that an event lies in. A cast cuts in SQLite, and rounds in PostgreSQL."""
    number = (_row.time - begin) / float(width)
    return cast(number if connection.dialect.name == "sqlite" else func.floor(number), BigInteger)


def _ordered(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(results, key=lambda result: [str(result.get(name)) for name in ("project_id", "model", "line_item", "api_key_id")])


def _completions(row: Row[Any]) -> dict[str, Any]:
    counts = {"input_tokens": 0, "output_tokens": 0, "input_cached_tokens": 0, "num_model_requests": row.requests}
    return {"object": "organization.usage.completions.result", **counts}


def _predictions(row: Row[Any]) -> dict[str, Any]:
    return {"object": "organization.usage.predictions.result", "num_rows": row.quantity, "num_model_requests": row.requests}


def _training(row: Row[Any]) -> dict[str, Any]:
    return {"object": "organization.usage.training.result", "worker_ms": row.quantity, "num_intervals": row.requests}


def _cost(row: Row[Any]) -> dict[str, Any]:
    named = "line_item" in row._mapping
    return {
        "object": "organization.costs.result",
        "amount": {"value": row.micro / MICRO, "currency": prices.CURRENCY},  # OpenAI's shape has a number here
        "amount_micro": row.micro,
        "quantity": row.quantity if named else None,
        "quantity_unit": row.unit if named else None,
    }


_RESULTS: dict[str, tuple[str, Callable[[Row[Any]], dict[str, Any]]]] = {
    "completions": ("prediction", _completions),
    "predictions": ("prediction", _predictions),
    "training": ("training", _training),
}
