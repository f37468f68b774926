"""Invoices: whole days of a project's usage, in lines that add up and lead to their events.

An invoice is reckoned from the events and compared with the ledger in one statement. It has no life of its own: the same project
and days give the same invoice, under the same id.
"""

from __future__ import annotations

import csv
import io
import time as clocks
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import BigInteger, Connection, Row, case, cast, func, literal, select

from aimass.billing import prices
from aimass.billing.money import usd
from aimass.billing.periods import day_of, whole_days
from aimass.billing.usage import whole
from aimass.core.errors import StorageError
from aimass.store import tables

COLUMNS = (
    "type",
    "item",
    "model",
    "version",
    "quantity",
    "unit",
    "price",
    "price_micro_per_million",
    "price_usd_per_million",
    "num_events",
    "in_doubt",
    "amount_micro",
    "amount_usd",
    "events",
)


def invoice(
    connection: Connection, project: str, *, start: float | None = None, end: float | None = None, now: float | None = None
) -> dict[str, Any]:
    """What a project owes for whole days (UTC), by default those of this month.

    Args:
        start: Unix seconds; its day is the first.
        end: Unix seconds, outside; a day that has begun is whole.

    Raises:
        UsageError: the period ends before it starts.
        StorageError: the events and the ledger differ. Nothing is issued then.
    """
    moment = clocks.time() if now is None else now
    begin, finish = whole_days(start, end, moment)
    rows = _grouped(connection, project, begin, finish)
    lines = [line for row in rows if (line := _charged(row, project, begin, finish))]
    lines += [line for row in rows if (line := _credit(row, project, begin, finish))]
    subtotal = sum(line["amount_micro"] for line in lines)
    ledger = rows[0].ledger if rows else 0
    if ledger != subtotal:
        raise StorageError(
            f"the events of {project} from {day_of(begin)} to {day_of(finish - 1)} add up to {usd(subtotal)}, and the ledger to"
            f" {usd(ledger)}; no invoice is made until that is cleared up; look for a hand that changed the tables"
        )
    doubtful = sum(line["in_doubt"] for line in lines if line["type"] == "charge")
    return {
        "id": invoice_id(project, begin, finish),
        "object": "invoice",
        "project": project,
        "start": begin,
        "end": finish,
        "period": f"{day_of(begin)} to {day_of(finish - 1)}",
        "final": finish <= moment,
        "created_at": int(moment),
        "currency": prices.CURRENCY,
        "lines": lines,
        "num_events": sum(line["num_events"] for line in lines if line["type"] == "charge"),
        "subtotal_micro": subtotal,
        "subtotal_usd": usd(subtotal),
        "ledger_micro": ledger,
        "in_doubt": {"num_events": doubtful, "events": _events(project, begin, finish, in_doubt="true") if doubtful else None},
    }


def invoice_id(project: str, start: int, end: int) -> str:
    """The one id of a project's invoice for a period.

    >>> invoice_id("proj-a", 0, 86400) == invoice_id("proj-a", 0, 86400)
    True
    """
    return f"inv-{sha256(f'{project} {start} {end}'.encode()).hexdigest()[:26]}"


def to_csv(made: dict[str, Any]) -> str:
    """An invoice's lines as CSV, with the columns of the JSON and the subtotal below."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for line in made["lines"]:
        writer.writerow({**line, "item": _plain(line["item"]), "model": _plain(line["model"])})
    writer.writerow({"type": "subtotal", "amount_micro": made["subtotal_micro"], "amount_usd": made["subtotal_usd"]})
    return text.getvalue()


def _grouped(connection: Connection, project: str, begin: int, finish: int) -> list[Row[Any]]:
    """The events by item, model, version and price, and beside them what the ledger says; one statement sees one moment."""
    event, entry = tables.usage_events.c, tables.entries.c
    price = tables.prices.c
    credited = case((event.credited, 1), else_=0)
    doubtful = case((event.in_doubt, 1), else_=0)
    owed = select(cast(func.coalesce(func.sum(entry.amount_micro), 0), BigInteger)).where(
        entry.account == literal(f"spend:{project}"), entry.time >= begin, entry.time < finish
    )
    keys = (event.item, event.model, event.version, event.unit, event.price_id, price.micro_per_million)
    query = (
        select(
            *keys,
            func.count().label("num_events"),
            whole(event.quantity).label("quantity"),
            whole(event.amount_micro).label("micro"),
            whole(doubtful).label("in_doubt"),
            whole(credited).label("credits"),
            whole(credited * event.quantity).label("credited_quantity"),
            whole(credited * event.amount_micro).label("credited_micro"),
            owed.scalar_subquery().label("ledger"),
        )
        .join_from(tables.usage_events, tables.prices, price.id == event.price_id)
        .where(event.project_id == project, event.time >= begin, event.time < finish)
        .group_by(*keys)
        .order_by(event.item, event.model, event.version, event.price_id)
    )
    return list(connection.execute(query).all())


def _charged(row: Row[Any], project: str, begin: int, finish: int) -> dict[str, Any] | None:
    return _line("charge", row, row.quantity, row.num_events, row.micro, row.in_doubt, _query(row, project, begin, finish))


def _credit(row: Row[Any], project: str, begin: int, finish: int) -> dict[str, Any] | None:
    if not row.credits:
        return None
    query = _query(row, project, begin, finish, credited="true")
    return _line("credit", row, -row.credited_quantity, row.credits, -row.credited_micro, 0, query)


def _line(type_: str, row: Row[Any], quantity: int, num_events: int, micro: int, in_doubt: int, events: str) -> dict[str, Any]:
    values = (type_, row.item, row.model, row.version, quantity, row.unit, row.price_id, row.micro_per_million)
    figures = (usd(row.micro_per_million), num_events, in_doubt, micro, usd(micro), events)
    return dict(zip(COLUMNS, (*values, *figures), strict=True))


def _query(row: Row[Any], project: str, begin: int, finish: int, **more: str) -> str:
    version = {} if row.version is None else {"version": str(row.version)}
    return _events(project, begin, finish, item=row.item, model=row.model, **version, price=row.price_id, **more)


def _events(project: str, begin: int, finish: int, **more: str) -> str:
    return f"/v1/usage/events?{urlencode({'project': project, 'start': begin, 'end': finish, **more})}"


def _plain(text: str) -> str:
    """A word that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
