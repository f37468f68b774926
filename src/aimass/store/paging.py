"""Lists a page at a time. Ids sort by time, so a page is named by the id that the one before ended with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Row, Select

from aimass.core.errors import UsageError

LONGEST = 10_000
_ORDERS = ("asc", "desc")


@dataclass(frozen=True, kw_only=True)
class Page:
    """Which part of a list is asked for.

    Args:
        after: the id that the page before ended with; None for the first page.
        limit: how many at most, 1 to 10,000.
        order: `desc` (newest first) or `asc`.

    Raises:
        UsageError: the limit or the order is not one of these.

    >>> Page(limit=0)
    Traceback (most recent call last):
    aimass.core.errors.UsageError: limit=0: a page has 1 to 10000 entries
    """

    after: str | None = None
    limit: int = 20
    order: str = "desc"

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= LONGEST:
            raise UsageError(f"limit={self.limit}: a page has 1 to {LONGEST} entries")
        if self.order not in _ORDERS:
            raise UsageError(f"order={self.order!r}: an order is asc or desc")


def fetch(connection: Connection, select: Select[Any], id_column: Column[str], page: Page) -> tuple[Sequence[Row[Any]], bool]:
    """The rows of one page, and whether there are more behind it.

    Args:
        connection: where to ask.
        select: the whole list, without an order.
        id_column: what it is ordered by; one of the columns of a table in `select`, unique in it.
        page: the part of it.

    An `after` that is no longer there does no harm: the page goes on behind where it stood.
    """
    falling = page.order == "desc"
    if page.after is not None:
        select = select.where(id_column < page.after if falling else id_column > page.after)
    ordered = select.order_by(id_column.desc() if falling else id_column.asc()).limit(page.limit + 1)
    rows = connection.execute(ordered).all()
    return rows[: page.limit], len(rows) > page.limit
