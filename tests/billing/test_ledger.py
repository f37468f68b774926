import threading

import pytest
from books import NOON, OTHER, PROJECT, balance, books, events, post, trial_balance, usage
from databases import database_url  # noqa: F401 - a fixture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from aimass.billing import ledger
from aimass.core.errors import UsageError
from aimass.store import tables
from aimass.store.database import sqlite_url


def test_an_event_is_charged_once_for_ever(database_url):  # noqa: F811
    with books(database_url) as database:
        assert post(database, usage("a"), usage("b", quantity=3)) == 2
        assert post(database, usage("b", quantity=3), usage("c"), usage("c")) == 1
        assert post(database, usage("a"), usage("b"), usage("c")) == 0
        assert balance(database, f"spend:{PROJECT}") == 500
        assert balance(database, "revenue:prediction") == -500
        assert trial_balance(database) == 0
        with database.read() as connection:
            assert len(connection.execute(select(tables.transactions)).all()) == 2  # an empty one leaves nothing


def test_a_transaction_is_of_one_project_item_and_day(database_url):  # noqa: F811
    with books(database_url) as database:
        training = {"item": "training", "kind": "training", "unit": "worker-ms", "quantity": 10_000, "version": None}
        post(database, usage("a"), usage("b", project=OTHER), usage("c", time=NOON + 86_400), usage("d", **training))
        with database.read() as connection:
            assert len(connection.execute(select(tables.transactions)).all()) == 4
        assert balance(database, f"spend:{PROJECT}") == 100 + 100 + 1_000
        assert balance(database, f"spend:{PROJECT}", start=NOON, end=NOON + 1) == 1_100
        assert balance(database, "revenue:training") == -1_000
        assert trial_balance(database) == 0


def test_a_credit_gives_back_once_and_in_the_period_of_the_event(database_url):  # noqa: F811
    with books(database_url) as database:
        post(database, usage("a"), usage("b"))
        for _ in range(2):
            with database.write() as connection:
                ledger.credit(connection, ["a", "unknown"])
        assert balance(database, f"spend:{PROJECT}", start=NOON, end=NOON + 1) == 100
        assert {id: row.credited for id, row in events(database).items()} == {"a": True, "b": False}
        assert trial_balance(database) == 0


def test_amounts_are_rounded_half_up_for_each_event(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        training = {"item": "training", "kind": "training", "unit": "worker-ms"}
        post(database, usage("a", quantity=4, **training), usage("b", quantity=5, **training), usage("c", quantity=15, **training))
        assert {id: row.amount_micro for id, row in events(database).items()} == {"a": 0, "b": 1, "c": 2}
        assert balance(database, f"spend:{PROJECT}") == 3


def test_an_amount_that_was_recorded_is_kept(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        post(database, usage("a", price="price-prediction", amount_micro=7))
        assert balance(database, f"spend:{PROJECT}") == 7


def test_an_item_without_a_price_is_named(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        with pytest.raises(UsageError, match="item in the price plan 'pony'"):
            post(database, usage("a", item="pony"))
        assert events(database) == {}


def test_many_posters_of_the_same_events_charge_each_once(database_url):  # noqa: F811
    with books(database_url) as database:
        batch = [usage(f"event-{number:03d}", quantity=number) for number in range(100)]
        counts = []
        threads = [threading.Thread(target=lambda: counts.append(post(database, *batch))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(counts) == 100
        assert balance(database, f"spend:{PROJECT}") == sum(range(100)) * 100
        assert trial_balance(database) == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10_000)), max_size=8), max_size=8))
def test_the_ledger_equals_a_dictionary(batches, tmp_path_factory):
    with books(sqlite_url(tmp_path_factory.mktemp("books") / "a.db")) as database:
        model = {}
        for batch in batches:
            post(database, *(usage(f"e{id}", quantity=quantity) for id, quantity in batch))
            for id, quantity in batch:
                model.setdefault(f"e{id}", quantity * 100)
        assert {id: row.amount_micro for id, row in events(database).items()} == model
        assert balance(database, f"spend:{PROJECT}") == sum(model.values())
        assert trial_balance(database) == 0
