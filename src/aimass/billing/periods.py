"""Periods of time, in UTC: the month of a budget, the days of an invoice, the buckets of a page of usage."""

from __future__ import annotations

from datetime import UTC, datetime

from aimass.core.errors import UsageError, unknown_name

DAY_S = 86_400
PERIODS = ("day", "month", "total")
_LATEST = 253_402_300_799  # the end of the year 9999, beyond which a calendar gives up


def period(name: str, now: float) -> tuple[float, float | None]:
    """The start and the end of the period that a moment lies in; `total` has no end.

    >>> period("month", 1_700_000_000.0)
    (1698796800.0, 1701388800.0)

    Raises:
        UsageError: there is no such period.
    """
    if name == "total":
        return 0.0, None
    if name == "day":
        begin = now // DAY_S * DAY_S
        return begin, begin + DAY_S
    if name != "month":
        raise unknown_name("period of a budget", name, PERIODS)
    return month(now)


def month(now: float) -> tuple[float, float]:
    """The start and the end of a moment's month."""
    day = datetime.fromtimestamp(now, UTC)
    following = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
    return datetime(day.year, day.month, 1, tzinfo=UTC).timestamp(), datetime(*following, 1, tzinfo=UTC).timestamp()


def whole_days(start: float | None, end: float | None, now: float) -> tuple[int, int]:
    """The whole days that hold the time from `start` to `end`; by default those of the month of `start`, or of now.

    Raises:
        UsageError: the end does not follow the start.
    """
    for name, value in (("start", start), ("end", end)):
        if value is not None and not 0 <= value <= _LATEST:
            raise UsageError(f"{name}={value:.0f}: a time is in Unix seconds, from 0 to {_LATEST}")
    first, last = month(now if start is None else start)
    begin = first if start is None else start // DAY_S * DAY_S
    finish = last if end is None else -(-end // DAY_S) * DAY_S
    if finish <= begin:
        raise UsageError(f"the period ends ({finish:.0f}) before it starts ({begin:.0f}); give an end after the start, in Unix seconds")
    return int(begin), int(finish)


def day_of(time: float) -> str:
    """The date of a moment.

    >>> day_of(1_700_000_000.0)
    '2023-11-14'
    """
    return datetime.fromtimestamp(time, UTC).date().isoformat()
