import asyncio
import os
import time

import pytest
from books import OTHER, PROJECT, balance, books, drop, events, trial_balance
from databases import database_url  # noqa: F401 - a fixture

from aimass.billing import budgets, prices, slices
from aimass.billing import meter as meter_module
from aimass.billing.meter import Meter
from aimass.billing.poster import Poster
from aimass.billing.record import UsageLog
from aimass.core.errors import QuotaExceeded, Unavailable, UsageError
from aimass.store import tables
from aimass.store.database import sqlite_url


@pytest.fixture
def database(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        yield database


@pytest.fixture
def meters(tmp_path):
    """Makes meters on one home, and closes them."""
    made = []

    def make(database, **named):
        meter = Meter(database, tmp_path, **named)
        meter.start()
        made.append(meter)
        return meter

    yield make
    for meter in made:
        meter.close()


def charge(meter, rows=1, project=PROJECT, **named):
    return meter.charge(project=project, key="key", model="digits", version=1, rows=rows, request_id="req-1", compute_us=30, **named)


async def answer(meter, rows=1, project=PROJECT):
    """A request's way as a gateway goes it."""
    if wait := meter.admit(project, 1):
        await wait
    while True:
        try:
            meter.sent(charge(meter, rows, project))
            return
        except QuotaExceeded:
            await meter.reserve(project, rows)


def until(holds, timeout_s=60.0):
    """Wait for what a thread does in the background."""
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def set_budget(database, limit_micro):
    with database.write() as connection:
        budgets.set_budget(connection, PROJECT, limit_micro=limit_micro, period_name="total")


def standing(database):
    with database.read() as connection:
        return budgets.standing(connection, PROJECT)


def test_answers_are_in_the_ledger_when_the_meter_is_closed(database_url, meters):  # noqa: F811
    with books(database_url) as database:
        meter = meters(database)
        assert meter.admit(PROJECT, 1) is None
        for rows in (1, 2, 3):
            meter.sent(charge(meter, rows))
        meter.credit(charge(meter, 4))
        in_doubt = f"{meter.incarnation}-{charge(meter, 5):010d}"
        meter.close()
        assert balance(database, f"spend:{PROJECT}") == 600 + 500
        assert [id for id, event in events(database).items() if event.in_doubt] == [in_doubt]
        assert trial_balance(database) == 0
        with pytest.raises(Unavailable):
            charge(meter)


def test_the_thread_posts_while_requests_go_on(database, meters):
    meter = meters(database)
    meter.sent(charge(meter, 7))
    until(lambda: balance(database, f"spend:{PROJECT}") == 700)


def test_the_way_of_a_request_does_not_wait_for_the_database(database, meters, monkeypatch):
    monkeypatch.setattr(slices, "IDLE_S", 1e9)  # however slow this machine is, the slice stays
    set_budget(database, 10**6)
    meter = meters(database)
    asyncio.run(answer(meter))
    with database.write() as connection:  # nobody else can write now
        connection.execute(tables.projects.insert().values(id="proj-c", name="c", created=1.0))
        for _ in range(10):
            for project in (PROJECT, OTHER):
                assert meter.admit(project, 1) is None
                meter.sent(charge(meter, project=project))
    meter.close()
    assert (balance(database, f"spend:{PROJECT}"), balance(database, f"spend:{OTHER}")) == (1_100, 1_000)


def test_who_looks_right_after_using_sees_it(database, meters):
    meter = meters(database)
    for number in range(1, 6):
        meter.sent(charge(meter))
        meter.drain()
        assert balance(database, f"spend:{PROJECT}") == 100 * number


def test_an_id_of_the_callers_is_charged_once(database, meters):
    meter = meters(database)
    for _ in range(2):
        meter.sent(charge(meter, event_id="idem-1"))
    meter.close()
    assert list(events(database)) == ["idem-1"]


def test_marks_of_a_quiet_gateway_are_written_soon(database, meters):
    meter = meters(database)

    async def one():
        meter.sent(charge(meter))
        await asyncio.sleep(0.1)

    asyncio.run(one())
    drop(meter._log)  # what is not in the file now is lost
    Poster(database, meter._folder.parent).adopt()
    until(lambda: [event.in_doubt for event in events(database).values()] == [False])  # the meter's thread may adopt it first


def test_a_new_price_is_charged_soon_and_each_event_keeps_its_own(database, meters):
    meter = meters(database)
    meter.sent(charge(meter))
    with database.write() as connection:
        prices.set_price(connection, "prediction", 200_000_000)
    meter.changed()
    until(lambda: meter._price.micro_per_million == 200_000_000)
    meter.sent(charge(meter))
    meter.close()
    assert [event.amount_micro for event in events(database).values()] == [100, 200]


def test_a_budget_is_spent_to_its_last_answer_and_not_beyond(database_url, meters):  # noqa: F811
    with books(database_url) as database:
        set_budget(database, 5_050)
        meter = meters(database)

        async def spend():
            answered = 0
            with pytest.raises(QuotaExceeded, match=r"budget of proj-a is \$0\.00505 in all"):
                while True:
                    await answer(meter)
                    answered += 1
            await answer(meter, project=OTHER)
            return answered

        assert asyncio.run(spend()) == 50
        meter.close()
        now = standing(database)
        assert (now.spent_micro, now.reserved_micro) == (5_000, 0)
        assert balance(database, f"spend:{OTHER}") == 100
        assert trial_balance(database) == 0


def test_whoever_waits_is_refused_however_late_the_refusal_comes(database, meters, monkeypatch):
    monkeypatch.setattr(slices, "_REFUSED_FOR_S", -1.0)  # as where the database takes longer than that to answer
    set_budget(database, 100)
    meter = meters(database)

    async def wait_together():
        waiting = [asyncio.create_task(meter.reserve(PROJECT, 1000)) for _ in range(8)]
        for _ in range(3):
            await asyncio.sleep(0)
            waiting.append(asyncio.create_task(meter.reserve(PROJECT, 1000)))
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)

    assert [type(end) for end in asyncio.run(wait_together())] == [QuotaExceeded] * 11


def test_two_gateways_share_a_budget_and_never_pass_it(database_url, meters):  # noqa: F811
    with books(database_url) as database:
        set_budget(database, 30_000)
        pair, seen = [meters(database), meters(database)], []

        async def spend(meter):
            answered = 0
            try:
                while True:
                    await answer(meter, rows=1 + answered % 3)
                    answered += 1
                    await asyncio.sleep(0.001)
            except QuotaExceeded:
                return answered

        async def watch():
            while True:
                seen.append((await asyncio.to_thread(standing, database)).available_micro)
                await asyncio.sleep(0.005)

        async def everything():
            watching = asyncio.create_task(watch())
            answered = await asyncio.gather(*(spend(meter) for meter in pair for _ in range(3)))
            watching.cancel()
            return answered

        answered = asyncio.run(everything())
        for meter in pair:
            meter.close()
        assert seen
        assert min(seen) >= 0
        assert sum(answered) == len(events(database))
        now = standing(database)
        assert now.reserved_micro == 0
        assert now.available_micro >= 0


def test_what_is_not_used_is_given_back_so_that_others_may_spend_it(database, meters, monkeypatch):
    monkeypatch.setattr(slices, "IDLE_S", 1e9)
    set_budget(database, 100_000)
    meter = meters(database)
    asyncio.run(answer(meter))
    assert standing(database).reserved_micro > 100
    monkeypatch.setattr(slices, "IDLE_S", 0.0)
    until(lambda: standing(database).reserved_micro == 0)
    assert standing(database).spent_micro == 100
    asyncio.run(answer(meter))


def test_a_budget_that_comes_changes_or_goes_is_followed(database, meters):
    meter = meters(database)
    assert meter.admit(PROJECT, 1) is None
    set_budget(database, 100)
    until(lambda: PROJECT in meter._slices)
    asyncio.run(answer(meter))
    with pytest.raises(QuotaExceeded):
        asyncio.run(answer(meter))
    set_budget(database, 300)
    until(lambda: meter._slices._held[PROJECT].terms[0] == 300)
    asyncio.run(answer(meter))
    with database.write() as connection:
        budgets.delete_budget(connection, PROJECT)
    until(lambda: PROJECT not in meter._slices)
    assert meter.admit(PROJECT, 1_000) is None
    charge(meter, 1_000)


def test_a_dead_gateways_log_is_posted_and_its_slice_given_back(database, meters, tmp_path, monkeypatch):
    monkeypatch.setattr(meter_module, "_ADOPT_EVERY_S", 0.05)
    set_budget(database, 1_000)
    poster = Poster(database, tmp_path)
    log = UsageLog(tmp_path / "usage")
    poster.register(log)
    with database.write() as connection:
        held = budgets.reserve(connection, PROJECT, 800, holder=log.incarnation, lease_s=-10.0)
    log.charge(time.time(), PROJECT, "key", "prediction", "prediction", "digits", 1, 3, "row", "req", 1, "price-prediction", 300, held.id)
    meters(database)
    time.sleep(0.5)  # it would have looked twice by now
    assert standing(database).reserved_micro == 800, "as long as its log is not posted, the slice covers what is in it"
    drop(log)
    until(lambda: standing(database).reserved_micro == 0)
    assert standing(database).spent_micro == 300


def test_a_long_log_is_followed_by_another(database, meters):
    set_budget(database, 10**9)
    meter = meters(database, log_bytes=2_000)
    first, early = meter.incarnation, charge(meter, 0)

    async def fill():
        while meter.incarnation == first:
            await answer(meter)
            await asyncio.sleep(0.002)
        for _ in range(10):
            await answer(meter)

    asyncio.run(fill())
    meter.sent(early)  # of a request that was under way when the log changed
    meter.close()
    found = events(database)
    assert len({event.incarnation for event in found.values()}) >= 2
    assert not any(event.in_doubt for event in found.values())
    assert balance(database, f"spend:{PROJECT}") == 100 * (len(found) - 1)
    assert standing(database).reserved_micro == 0
    with database.read() as connection:
        assert all(row.closed for row in connection.execute(tables.usage_logs.select()))


def test_a_way_to_sync_that_is_none_is_refused(database, tmp_path, monkeypatch):
    monkeypatch.setenv("AIMASS_USAGE_FSYNC", "sometimes")
    with pytest.raises(UsageError, match="never"):
        Meter(database, tmp_path)


@pytest.mark.parametrize("fsync", ["never", "interval", "always"])
def test_every_way_to_sync_posts_the_same(database, meters, fsync):
    meter = meters(database, fsync=fsync)
    meter.sent(charge(meter))
    meter.close()
    assert balance(database, f"spend:{PROJECT}") == 100


def test_a_price_that_a_clock_ahead_has_set_is_charged_from_its_time_on(database, meters):
    meter = meters(database)
    with database.write() as connection:
        prices.set_price(connection, "prediction", 200_000_000, now=time.time() + 0.3)
    meter.changed()
    until(lambda: meter._price.micro_per_million == 200_000_000)


def test_a_next_log_that_could_not_be_begun_is_let_go_of(database, meters, monkeypatch, tmp_path):
    tries = []

    def away(self, holder):
        tries.append(holder)
        raise Unavailable("the database is busy")

    monkeypatch.setattr(slices.Slices, "move_to", away)
    meter = meters(database, log_bytes=1)
    meter.sent(charge(meter))
    until(lambda: len(tries) > 3)
    monkeypatch.undo()
    opened = [path for number in os.listdir("/proc/self/fd") if (path := _opened(number)).startswith(str(tmp_path / "usage"))]
    assert len(opened) <= 3
    meter.close()
    assert balance(database, f"spend:{PROJECT}") == 100


def _opened(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""
