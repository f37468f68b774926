"""The ledger: double entry, and every usage event in it exactly once, for ever.

Accounts, debits above zero:

    spend:<project>      what the project has used          against   revenue:<item>
    reserved:<project>   what is put aside of its budget    against   budget:<project>

One transaction holds a batch's events of one project, item and day. An entry's time is that of its events, so that the sum of
a period's entries is the spend of that period, whenever they were posted. The key of `usage_events` is what makes "once" true:
an event that is there already adds nothing.
"""

from __future__ import annotations

import time as clocks
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Connection, cast, delete, func, select, update

from aimass.billing import prices
from aimass.billing.periods import DAY_S
from aimass.core.ids import new_id
from aimass.store import tables

_FIELDS = {  # the columns of `usage_events` that an event brings
    "id": "id",
    "project_id": "project",
    "key_id": "key",
    "kind": "kind",
    "item": "item",
    "model": "model",
    "version": "version",
    "quantity": "quantity",
    "unit": "unit",
    "time": "time",
    "price_id": "price",
    "amount_micro": "amount_micro",
    "request_id": "request",
}
_COLUMNS, _values = tuple(_FIELDS), attrgetter(*_FIELDS.values())


def _encode(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One answered request, or one slice of compute.

    Args:
        id: the same id is charged once.
        quantity: of the item's unit: rows, or milliseconds of one worker.
        price: with `amount_micro`, what it was charged with; by default the plan's price at `time`.
        reservation: what was put aside for it, and is used up by it.
    """

    id: str
    time: float
    project: str
    kind: str
    item: str
    model: str
    quantity: int
    unit: str
    version: int | None = None
    key: str | None = None
    request: str | None = None
    price: str | None = None
    amount_micro: int | None = None
    reservation: str | None = None
    data: dict[str, Any] | None = None


def post(connection: Connection, events: Sequence[Usage], *, incarnation: str | None = None, now: float | None = None) -> int:
    """Charge events, in the caller's transaction. Those that were charged before add nothing.

    Args:
        incarnation: the gateway whose log they come from.

    Returns:
        how many were charged now.

    Raises:
        UsageError: an item that the price plan does not know.
    """
    if not events:
        return 0
    groups: dict[tuple[str, str, int], list[Usage]] = {}
    for event in _priced(connection, events):
        groups.setdefault((event.project, event.item, int(event.time // DAY_S)), []).append(event)
    posted = 0
    for (project, item, _), group in sorted(groups.items()):
        posted += _post_group(connection, project, item, group, incarnation, clocks.time() if now is None else now)
    return posted


def credit(connection: Connection, event_ids: Iterable[str], *, now: float | None = None) -> int:
    """Give back what events cost, in the caller's transaction; once each. That ends a doubt as well.

    The entries have the time of the event, so that the period which was charged is the one that is relieved.

    Returns:
        how many were credited now.
    """
    row, credited = tables.usage_events.c, 0
    for event_id in event_ids:
        change = update(tables.usage_events).where(row.id == event_id, row.credited.is_(False)).values(credited=True, in_doubt=False)
        found = connection.execute(change.returning(row.project_id, row.item, row.amount_micro, row.time)).one_or_none()
        if found is None:
            continue
        lines = [(f"spend:{found.project_id}", -found.amount_micro), (f"revenue:{found.item}", found.amount_micro)]
        enter(connection, "credit", lines, time=found.time, reference=f"credit:{event_id}", now=now)
        credited += 1
    return credited


def enter(
    connection: Connection,
    kind: str,
    lines: Sequence[tuple[str, int]],
    *,
    time: float,
    reference: str | None = None,
    now: float | None = None,
) -> str:
    """Write one transaction of the ledger.

    Args:
        lines: accounts and amounts; they add up to nothing.
        time: of the entries.
        reference: unique; a second transaction with it is refused by the database.
    """
    assert sum(amount for _, amount in lines) == 0, "a transaction adds up to nothing"
    transaction = new_id("tx")
    row = {"id": transaction, "kind": kind, "reference": reference or f"{kind}:{transaction}"}
    connection.execute(tables.transactions.insert().values(**row, time=clocks.time() if now is None else now))
    _write_lines(connection, transaction, lines, time)
    return transaction


def balance(connection: Connection, account: str, *, start: float | None = None, end: float | None = None) -> int:
    """The sum of an account's entries, in micro-units, of `start` <= time < `end`."""
    row = tables.entries.c
    total = select(cast(func.coalesce(func.sum(row.amount_micro), 0), BigInteger)).where(row.account == account)
    if start is not None:
        total = total.where(row.time >= start)
    if end is not None:
        total = total.where(row.time < end)
    return int(connection.execute(total).scalar_one())


def trial_balance(connection: Connection) -> int:
    """The sum of all entries. It is 0, or the ledger is broken."""
    return int(connection.execute(select(cast(func.coalesce(func.sum(tables.entries.c.amount_micro), 0), BigInteger))).scalar_one())


def _priced(connection: Connection, events: Sequence[Usage]) -> list[Usage]:
    """The events with their amounts, each id once."""
    unique = {event.id: event for event in reversed(events)}
    if all(event.amount_micro is not None for event in unique.values()):
        return list(unique.values())
    book, priced = prices.read(connection), []
    for event in unique.values():
        if event.amount_micro is None:
            price = book.at(event.item, event.time)
            event = replace(event, price=price.id, amount_micro=price.amount_micro(event.quantity))
        priced.append(event)
    return priced


def _post_group(connection: Connection, project: str, item: str, group: list[Usage], incarnation: str | None, now: float) -> int:
    transaction = new_id("tx")
    row = {"id": transaction, "kind": "usage", "reference": f"usage:{transaction}", "time": now}
    connection.execute(tables.transactions.insert().values(**row))
    new = _insert_new(connection, group, transaction, incarnation)
    if not new:
        connection.execute(delete(tables.transactions).where(tables.transactions.c.id == transaction))
        return 0
    charged = [event for event in group if event.id in new]
    amount = sum(event.amount_micro or 0 for event in charged)
    lines = [(f"spend:{project}", amount), (f"revenue:{item}", -amount)]
    used = _use_up(connection, charged)
    if used:
        lines += [(f"reserved:{project}", -used), (f"budget:{project}", used)]
    _write_lines(connection, transaction, lines, max(event.time for event in charged))
    return len(charged)


def _insert_new(connection: Connection, group: list[Usage], transaction: str, incarnation: str | None) -> set[str]:
    """Insert the events that are not there yet, and tell which those were."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    columns = (*_COLUMNS, "transaction_id", "incarnation", "in_doubt", "credited", "data")
    statement = f"INSERT INTO usage_events ({', '.join(columns)}) VALUES ({', '.join([mark] * len(columns))}) ON CONFLICT (id) DO NOTHING"  # noqa: S608
    rest = (transaction, incarnation, False, False)
    rows = [(*_values(event), *rest, _encode(event.data) if event.data else None) for event in group]
    inserted = connection.exec_driver_sql(statement, rows).rowcount  # the driver's own way costs less than half, for every request
    if inserted == len(group):
        return {event.id for event in group}
    row = tables.usage_events.c
    return set(connection.execute(select(row.id).where(row.transaction_id == transaction)).scalars())


def _use_up(connection: Connection, charged: list[Usage]) -> int:
    """Take what the events cost out of what was put aside for them. Returns how much that was."""
    wanted: dict[str, int] = {}
    for event in charged:
        if event.reservation and event.amount_micro:
            wanted[event.reservation] = wanted.get(event.reservation, 0) + event.amount_micro
    row, used = tables.reservations.c, 0
    for reservation, amount in sorted(wanted.items()):
        left = connection.execute(select(row.amount_micro).where(row.id == reservation).with_for_update()).scalar_one_or_none()
        taken = min(amount, left or 0)
        if taken:
            connection.execute(update(tables.reservations).where(row.id == reservation).values(amount_micro=row.amount_micro - taken))
            used += taken
    return used


def _write_lines(connection: Connection, transaction: str, lines: Sequence[tuple[str, int]], time: float) -> None:
    rows = [
        {"transaction_id": transaction, "line": line, "account": account, "amount_micro": amount, "time": time}
        for line, (account, amount) in enumerate(lines)
    ]
    connection.execute(tables.entries.insert(), rows)
