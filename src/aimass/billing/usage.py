"""What was used: totals of a project, and its events, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, case, cast, func, or_, select

from aimass.billing.money import usd
from aimass.core.errors import NotFound
from aimass.store import tables
from aimass.store.paging import Page

_row = tables.usage_events.c


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which usage events are meant. What is None is left open.

    Args:
        start: from this Unix second on.
        end: up to this one, which is outside.
        price: the id of the price they were charged with: with item, model, version and the period it names an invoice's line.
        in_doubt: those recorded by a gateway that died before it could say that they were sent.
    """

    project: str | None = None
    item: str | None = None
    model: str | None = None
    version: int | None = None
    key: str | None = None
    price: str | None = None
    start: float | None = None
    end: float | None = None
    in_doubt: bool | None = None
    credited: bool | None = None

    def where(self) -> ColumnElement[bool]:
        """The condition on `usage_events`."""
        equal = [
            (_row.project_id, self.project),
            (_row.item, self.item),
            (_row.model, self.model),
            (_row.version, self.version),
            (_row.key_id, self.key),
            (_row.price_id, self.price),
            (_row.in_doubt, self.in_doubt),
            (_row.credited, self.credited),
        ]
        conditions = [column == value for column, value in equal if value is not None]
        if self.start is not None:
            conditions.append(_row.time >= self.start)
        if self.end is not None:
            conditions.append(_row.time < self.end)
        return and_(True, *conditions)


def totals(connection: Connection, chosen: Filter) -> dict[str, Any]:
    """What was used and what it costs, by item. Credited events do not count."""
    kept = case((_row.credited.is_(False), 1), else_=0)
    doubtful = case((_row.in_doubt & _row.credited.is_(False), 1), else_=0)
    figures = [whole(kept), whole(kept * _row.quantity), whole(kept * _row.amount_micro), whole(doubtful)]
    query = select(_row.item, _row.unit, *figures).where(chosen.where()).group_by(_row.item, _row.unit).order_by(_row.item)
    lines = [
        {
            "item": item,
            "unit": unit,
            "events": events,
            "quantity": quantity,
            "amount_micro": amount,
            "amount_usd": usd(amount),
            "in_doubt": in_doubt,
        }
        for item, unit, events, quantity, amount, in_doubt in connection.execute(query)
    ]
    total = sum(line["amount_micro"] for line in lines)
    return {
        "object": "usage",
        "project": chosen.project,
        "start": None if chosen.start is None else int(chosen.start),
        "end": None if chosen.end is None else int(chosen.end),
        "items": lines,
        "amount_micro": total,
        "amount_usd": usd(total),
    }


def events(connection: Connection, chosen: Filter, page: Page) -> dict[str, Any]:
    """One page of events, ordered by time.

    Raises:
        NotFound: there is no event `page.after`.
    """
    query = select(tables.usage_events).where(chosen.where())
    falling = page.order == "desc"
    if page.after is not None:
        query = query.where(_beyond(connection, page.after, falling))
    order = (_row.time.desc(), _row.id.desc()) if falling else (_row.time, _row.id)
    rows = connection.execute(query.order_by(*order).limit(page.limit + 1)).mappings().all()
    data = [to_json(dict(row)) for row in rows[: page.limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > page.limit,
    }


def to_json(row: dict[str, Any]) -> dict[str, Any]:
    """An event as the API shows it."""
    return {
        "id": row["id"],
        "object": "usage.event",
        "created_at": int(row["time"]),
        "project": row["project_id"],
        "key": row["key_id"],
        "kind": row["kind"],
        "item": row["item"],
        "model": row["model"],
        "version": row["version"],
        "quantity": row["quantity"],
        "unit": row["unit"],
        "price": row["price_id"],
        "amount_micro": row["amount_micro"],
        "amount_usd": usd(row["amount_micro"]),
        "transaction": row["transaction_id"],
        "request": row["request_id"],
        "in_doubt": row["in_doubt"],
        "credited": row["credited"],
        "data": row["data"],
    }


def whole(value: Any) -> ColumnElement[int]:
    """The sum of a column as a whole number, 0 of nothing; PostgreSQL would make it a decimal."""
    return cast(func.coalesce(func.sum(value), 0), BigInteger)


def _beyond(connection: Connection, after: str, falling: bool) -> ColumnElement[bool]:
    time = connection.execute(select(_row.time).where(_row.id == after)).scalar_one_or_none()
    if time is None:
        raise NotFound(f"there is no usage event {after!r}; go on after the last_id of the page before")
    if falling:
        return or_(_row.time < time, and_(_row.time == time, _row.id < after))
    return or_(_row.time > time, and_(_row.time == time, _row.id > after))
