import pytest
from books import NOON, books, events, post, usage
from databases import database_url  # noqa: F401 - a fixture

from aimass.billing import prices
from aimass.core.errors import UsageError
from aimass.store.database import sqlite_url


def test_a_new_price_is_valid_from_now_and_what_was_charged_keeps_its_own(database_url):  # noqa: F811
    with books(database_url) as database:
        with database.write() as connection:
            prices.set_price(connection, "prediction", 200_000_000, now=NOON + 10)
        post(database, usage("before", time=NOON), usage("after", time=NOON + 10))
        assert {id: row.amount_micro for id, row in events(database).items()} == {"before": 100, "after": 200}
        with database.read() as connection:
            shown = prices.list_prices(connection, now=NOON + 20)
        assert [(price["item"], price["micro_per_million"], price["current"]) for price in shown] == [
            ("prediction", 200_000_000, True),
            ("prediction", 100_000_000, False),
            ("training", 100_000, True),
        ]


def test_the_defaults_come_once(database_url):  # noqa: F811
    with books(database_url) as database:
        prices.ensure(database)
        with database.read() as connection:
            assert len(prices.list_prices(connection)) == 2


@pytest.mark.parametrize(
    ("item", "micro", "unit", "message"),
    [
        ("prediction", -1, None, "whole number of micro-units"),
        ("prediction", True, None, "whole number of micro-units"),
        ("prediction", 1, "token", "counted in 'row'"),
        ("pony", 1, None, "in which unit"),
    ],
)
def test_a_price_that_is_none_is_refused(tmp_path, item, micro, unit, message):
    with books(sqlite_url(tmp_path / "a.db")) as database, pytest.raises(UsageError, match=message), database.write() as connection:
        prices.set_price(connection, item, micro, unit=unit)
