"""The price plan: what a unit of each item costs, and from when on.

A price is never changed. A new one is valid from the moment it is set, and every event keeps the price and the amount that it was
charged with, so that sums stay exact and old invoices stay what they were.
"""

from __future__ import annotations

import time as clocks
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, select

from aimass.billing.money import usd
from aimass.billing.statements import bump
from aimass.core.errors import UsageError, unknown_name
from aimass.core.ids import new_id
from aimass.store import tables
from aimass.store.database import Database

CURRENCY = "usd"
MILLION = 1_000_000
_HIGHEST = 10**15  # a thousand dollars a unit; what is above is a slip of the pen


@dataclass(frozen=True, slots=True)
class Price:
    """What an item costs from `valid_from` on."""

    id: str
    item: str
    unit: str
    micro_per_million: int
    valid_from: float = 0.0

    def amount_micro(self, quantity: int) -> int:
        """The amount for a quantity of units, half a micro-unit rounded up.

        >>> Price("price-x", "prediction", "row", 100_000_000).amount_micro(3)
        300
        """
        return (quantity * self.micro_per_million + MILLION // 2) // MILLION


DEFAULTS = (
    Price("price-prediction", "prediction", "row", 100_000_000),  # $0.10 for 1,000 rows
    Price("price-training", "training", "worker-ms", 100_000),  # $0.36 for an hour of one worker
)


class PriceBook:
    """Every price of every item, in memory.

    >>> PriceBook(DEFAULTS).at("prediction", 0.0).amount_micro(1_000)
    100000
    """

    def __init__(self, prices: Iterable[Price]) -> None:
        self._items: dict[str, list[Price]] = {}
        for price in sorted(prices, key=attrgetter("valid_from")):
            self._items.setdefault(price.item, []).append(price)

    def at(self, item: str, time: float) -> Price:
        """The price that is valid at a time.

        Raises:
            UsageError: the plan has no such item.
        """
        prices = self._items.get(item)
        if prices is None:
            raise unknown_name("item in the price plan", item, self._items)
        return prices[max(0, bisect_right(prices, time, key=attrgetter("valid_from")) - 1)]


def ensure(database: Database) -> None:
    """Put the plan's defaults into a database that has none."""
    with database.write() as connection:
        rows = [{**_row(price), "currency": CURRENCY} for price in DEFAULTS]
        connection.execute(database.insert(tables.prices).on_conflict_do_nothing(), rows)


def read(connection: Connection) -> PriceBook:
    """The plan as it stands."""
    return PriceBook(_all(connection))


def list_prices(connection: Connection, *, now: float | None = None) -> list[dict[str, Any]]:
    """The plan for people: every price, the newest of an item first, and which are valid now."""
    book, moment = read(connection), clocks.time() if now is None else now
    prices = sorted(_all(connection), key=lambda price: (price.item, -price.valid_from))
    return [{**to_json(price), "current": book.at(price.item, moment).id == price.id} for price in prices]


def set_price(connection: Connection, item: str, micro_per_million: int, *, unit: str | None = None, now: float | None = None) -> Price:
    """Give an item a new price from now on. What was charged keeps the price it had.

    Args:
        micro_per_million: micro-units of money for a million units of the item.

    Raises:
        UsageError: the price is out of range, or a known item is given another unit.
    """
    if isinstance(micro_per_million, bool) or not 0 <= micro_per_million <= _HIGHEST:
        raise UsageError(f"micro_per_million={micro_per_million!r}: a price is a whole number of micro-units from 0 to {_HIGHEST}")
    known = next((price for price in _all(connection) if price.item == item), None)
    if known is None and not unit:
        raise UsageError(f"{item!r} is a new item; say in which unit it is counted")
    if known is not None and unit not in (None, known.unit):
        raise UsageError(f"{item!r} is counted in {known.unit!r}, not in {unit!r}")
    price = Price(new_id("price"), item, unit or (known.unit if known else ""), micro_per_million, clocks.time() if now is None else now)
    connection.execute(tables.prices.insert().values(**_row(price), currency=CURRENCY))
    bump(connection)
    return price


def to_json(price: Price) -> dict[str, Any]:
    """A price as the API shows it."""
    return {
        "id": price.id,
        "object": "price",
        "item": price.item,
        "unit": price.unit,
        "micro_per_million": price.micro_per_million,
        "usd_per_million": usd(price.micro_per_million),
        "currency": CURRENCY,
        "valid_from": int(price.valid_from),
    }


def _row(price: Price) -> dict[str, Any]:
    return {name: getattr(price, name) for name in ("id", "item", "unit", "micro_per_million", "valid_from")}


def _all(connection: Connection) -> list[Price]:
    row = tables.prices.c
    return [Price(*found) for found in connection.execute(select(row.id, row.item, row.unit, row.micro_per_million, row.valid_from))]
