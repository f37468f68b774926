import threading
import time

import pytest
from books import NOON, OTHER, PROJECT, balance, books, post, trial_balance, usage
from databases import database_url  # noqa: F401 - a fixture
from sqlalchemy import select

from aimass.billing import budgets, reservations
from aimass.core.errors import NotFound, QuotaExceeded, UsageError
from aimass.store import tables
from aimass.store.database import sqlite_url


def set_budget(database, limit_micro, *, period="total", now=None):
    with database.write() as connection:
        return budgets.set_budget(connection, PROJECT, limit_micro=limit_micro, period_name=period, now=now)


def reserve(database, amount, **named):
    with database.write() as connection:
        return budgets.reserve(connection, PROJECT, amount, **{"holder": "job-1", **named})


def standing(database, now=None):
    with database.read() as connection:
        return budgets.standing(connection, PROJECT, now=now)


def test_a_budget_is_set_read_and_removed(database_url):  # noqa: F811
    with books(database_url) as database:
        with database.write() as connection:
            made = budgets.set_budget(connection, PROJECT, limit_usd="1.50", period_name="month", now=NOON)
        assert (made["limit_micro"], made["limit_usd"], made["period"], made["available_usd"]) == (1_500_000, "1.50", "month", "1.50")
        assert made["resets_at"] == 1_701_388_800
        assert set_budget(database, 5)["limit_micro"] == 5
        with database.write() as connection:
            budgets.delete_budget(connection, PROJECT)
        with pytest.raises(NotFound, match="has no budget"), database.read() as connection:
            budgets.get_budget(connection, PROJECT)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({}, "needs limit_usd"),
        ({"limit_usd": "much"}, "no amount in dollars"),
        ({"limit_usd": "0.0000001"}, "at most six decimals"),
        ({"limit_micro": -1}, "from \\$0"),
        ({"limit_usd": "1", "period_name": "moth"}, "did you mean 'month'"),
    ],
)
def test_a_budget_that_is_none_is_refused(tmp_path, named, message):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        with pytest.raises(UsageError, match=message), database.write() as connection:
            budgets.set_budget(connection, PROJECT, **named)
        with pytest.raises(NotFound, match="no project"), database.write() as connection:
            budgets.set_budget(connection, "proj-x", limit_usd="1")


def test_what_is_reserved_is_in_the_ledger_and_used_up_by_its_events(database_url):  # noqa: F811
    with books(database_url) as database:
        set_budget(database, 1_000)
        held = reserve(database, 600)
        assert balance(database, f"reserved:{PROJECT}") == 600
        post(database, usage("a", quantity=2, reservation=held.id), usage("b", quantity=1, reservation=held.id))
        now = standing(database)
        assert (now.spent_micro, now.reserved_micro, now.available_micro) == (300, 300, 400)
        post(database, usage("a", quantity=2, reservation=held.id))
        assert standing(database).reserved_micro == 300, "an event that was charged before uses up nothing"
        with database.write() as connection:
            assert reservations.release(connection, held.id) == 300
        assert balance(database, f"reserved:{PROJECT}") == 0
        assert standing(database).available_micro == 700
        assert trial_balance(database) == 0


def test_more_than_was_reserved_is_charged_and_nothing_is_reserved_below_zero(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        set_budget(database, 1_000)
        held = reserve(database, 150)
        post(database, usage("a", quantity=2, reservation=held.id))
        now = standing(database)
        assert (now.spent_micro, now.reserved_micro) == (200, 0)
        assert balance(database, f"reserved:{PROJECT}") == 0


def test_a_refusal_says_the_budget_what_is_spent_and_until_when(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        set_budget(database, 1_000, period="month", now=NOON)
        post(database, usage("a", quantity=8))
        with pytest.raises(QuotaExceeded) as refused:
            reserve(database, 300, now=NOON)
        for part in (PROJECT, "$0.001 a month", "$0.0008 of it is spent", "2023-12-01 00:00 UTC"):
            assert part in str(refused.value)
        assert reserve(database, 200, now=NOON) is not None


def test_a_project_without_a_budget_reserves_nothing(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        assert reserve(database, 10**12) is None
        with database.read() as connection:
            assert connection.execute(select(tables.reservations)).all() == []


def test_a_budget_of_a_month_begins_anew(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        set_budget(database, 1_000, period="month")
        post(database, usage("a", quantity=10), usage("b", project=OTHER, quantity=50))
        assert standing(database, NOON).available_micro == 0
        assert standing(database, NOON + 20 * 86_400).available_micro == 1_000


def test_no_two_put_aside_the_same_money(database_url):  # noqa: F811
    with books(database_url) as database:
        set_budget(database, 10_000)
        got, seen = [], []

        def spend(number):
            for turn in range(20):
                try:
                    held = reserve(database, 100 + number, holder=f"gateway-{number}", at_best_micro=700)
                except QuotaExceeded:
                    return
                now = standing(database)
                seen.append(now.spent_micro + now.reserved_micro)
                post(database, usage(f"{number}-{turn}", quantity=1, reservation=held.id))
                got.append(held.amount_micro)

        threads = [threading.Thread(target=spend, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen
        assert max(seen) <= 10_000
        assert sum(got) <= 10_000
        assert standing(database).available_micro >= 0
        assert trial_balance(database) == 0


def test_what_nobody_holds_any_more_is_given_back(database_url):  # noqa: F811
    with books(database_url) as database:
        set_budget(database, 1_000)
        reserve(database, 400, holder="job-1", lease_s=1_000.0)
        reserve(database, 300, holder="job-2", lease_s=1_000.0)
        with database.write() as connection:
            reservations.renew(connection, holder="job-2", lease_s=100_000.0)
        with database.write() as connection:
            assert reservations.expire(connection, now=time.time() + 500.0) == 0
            assert reservations.expire(connection, now=time.time() + 5_000.0) == 400
        assert standing(database).reserved_micro == 300
        assert trial_balance(database) == 0


def test_what_is_renewed_while_it_is_looked_at_is_kept(database_url):  # noqa: F811
    with books(database_url) as database:
        set_budget(database, 1_000)
        reserve(database, 400, lease_s=-10.0)
        given_back = []

        def expire():
            with database.write() as connection:
                given_back.append(reservations.expire(connection))

        other = threading.Thread(target=expire)
        with database.write() as connection:
            reservations.renew(connection, holder="job-1", lease_s=60.0)
            other.start()
            time.sleep(0.5)
        other.join()
        assert given_back == [0]
        assert standing(database).reserved_micro == 400
