import os
import threading

import pytest
from books import PROJECT, balance, books, charge, drop, events, new_log, trial_balance
from databases import database_url  # noqa: F401 - a fixture
from sqlalchemy import select

from aimass.billing import ledger
from aimass.billing.poster import Poster
from aimass.billing.record import read_log
from aimass.core.errors import StorageError
from aimass.store import tables
from aimass.store.database import Database, sqlite_url


def standing(database, log):
    with database.read() as connection:
        return connection.execute(select(tables.usage_logs).where(tables.usage_logs.c.incarnation == log.incarnation)).one()


def test_what_is_recorded_is_posted_once(database_url, tmp_path):  # noqa: F811
    with books(database_url) as database:
        poster = Poster(database, tmp_path)
        log = new_log(tmp_path, poster)
        for rows in (1, 2, 3):
            log.sent(charge(log, rows))
        log.flush()
        assert poster.post(log.incarnation) == 3
        assert poster.post(log.incarnation) == 0
        charge(log, 4)
        assert poster.post(log.incarnation) == 1
        assert balance(database, f"spend:{PROJECT}") == 1_000
        assert trial_balance(database) == 0
        assert standing(database, log).position == log.path.stat().st_size
        event = events(database)[f"{log.incarnation}-0000000003"]
        assert (event.quantity, event.model, event.request_id, event.data) == (3, "digits", "req-1", {"compute_us": 30})
        log.close()


def test_more_than_one_batch_is_posted(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        poster = Poster(database, tmp_path)
        log = new_log(tmp_path, poster)
        for _ in range(4_500):
            log.sent(charge(log))
        log.close()
        assert poster.post(log.incarnation) == 4_500
        assert standing(database, log).closed is not None
        assert not any(event.in_doubt for event in events(database).values())


def test_a_transaction_that_fails_leaves_position_and_ledger_as_they_were(tmp_path, monkeypatch):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        poster = Poster(database, tmp_path)
        log = new_log(tmp_path, poster)
        charge(log)
        fails = lambda *_: (_ for _ in ()).throw(RuntimeError("the power went"))  # noqa: E731
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "credit", fails)  # after the events were posted
            with pytest.raises(RuntimeError):
                poster.post(log.incarnation)
        assert standing(database, log).position == 0
        assert events(database) == {}
        assert poster.post(log.incarnation) == 1
        log.close()


def test_a_dead_writers_log_is_adopted_and_its_unmarked_charges_are_in_doubt(database_url, tmp_path):  # noqa: F811
    with books(database_url) as database:
        poster = Poster(database, tmp_path)
        log = new_log(tmp_path, poster)
        sent, posted_before, credited, unmarked = (charge(log) for _ in range(4))
        log.sent(sent)
        log.flush()
        poster.post(log.incarnation)  # the charges are in the ledger, and of `sent` alone it is known
        log.credit(credited)
        log.flush()
        late = charge(log)
        assert poster.adopt() == [], "its writer lives"
        drop(log)
        assert poster.adopt() == [log.incarnation]
        assert poster.adopt() == []
        found = {int(id.rsplit("-", 1)[1]): row for id, row in events(database).items()}
        assert {number for number, row in found.items() if row.in_doubt} == {posted_before, unmarked, late}
        assert {number for number, row in found.items() if row.credited} == {credited}
        assert balance(database, f"spend:{PROJECT}") == 400, "what is in doubt is charged, what is credited is not"
        assert trial_balance(database) == 0
        assert standing(database, log).closed is not None


def test_two_posters_of_one_log_charge_each_event_once(database_url, tmp_path):  # noqa: F811
    with books(database_url) as database:
        log = new_log(tmp_path, Poster(database, tmp_path))
        for _ in range(3_000):
            charge(log)
        counts = []
        threads = [threading.Thread(target=lambda: counts.append(Poster(database, tmp_path).post(log.incarnation))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(counts) == 3_000
        assert balance(database, f"spend:{PROJECT}") == 300_000
        log.close()


def test_damage_is_named_and_the_rest_is_charged(tmp_path, caplog):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        poster = Poster(database, tmp_path)
        log = new_log(tmp_path, poster)
        for _ in range(3):
            charge(log)
        ends = [position for _, position in read_log(log.path)]
        drop(log)
        with open(log.path, "r+b") as file:
            file.seek(ends[1] + 20)
            file.write(b"\xff")
        poster.adopt()
        assert sorted(events(database)) == [f"{log.incarnation}-000000000{number}" for number in (1, 3)]
        assert f"{log.path} is damaged" in caplog.text
        assert len(poster.damaged) == 1


def test_a_torn_tail_is_named_when_the_log_is_closed(tmp_path, caplog):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        poster = Poster(database, tmp_path)
        log = new_log(tmp_path, poster)
        charge(log)
        charge(log)
        os.ftruncate(log._file, log.path.stat().st_size - 5)
        poster.post(log.incarnation)
        assert poster.damaged == []
        drop(log)
        poster.adopt()
        assert len(events(database)) == 1
        assert "is damaged" in caplog.text


def test_a_log_of_another_host_is_left_alone(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        log = new_log(tmp_path / "elsewhere", Poster(database, tmp_path / "elsewhere"))
        charge(log)
        drop(log)
        log.path.rename(tmp_path / "away")
        assert Poster(database, tmp_path / "here").adopt() == []
        assert standing(database, log).closed is None


def test_a_home_that_was_moved_keeps_its_logs(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        log = new_log(tmp_path / "old", Poster(database, tmp_path / "old"))
        charge(log)
        drop(log)
        (tmp_path / "old").rename(tmp_path / "new")
        assert Poster(database, tmp_path / "new").adopt() == [log.incarnation]
        assert balance(database, f"spend:{PROJECT}") == 100


def test_a_database_that_is_away_loses_nothing(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        poster = Poster(database, tmp_path)
        log = new_log(tmp_path, poster)
        charge(log)
        away = Poster(Database(sqlite_url(tmp_path / "empty.db")), tmp_path)
        with pytest.raises(StorageError):
            away.post(log.incarnation)
        assert poster.post(log.incarnation) == 1
        log.close()


def test_a_log_that_cannot_be_posted_holds_up_no_other(tmp_path, caplog):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        poster = Poster(database, tmp_path)
        bad, good = new_log(tmp_path, poster), new_log(tmp_path, poster)
        for log in (bad, good):
            charge(log)
            drop(log)
        bad.path.unlink()
        bad.path.mkdir()
        assert poster.adopt() == [good.incarnation]
        assert f"{bad.incarnation} is adopted later" in caplog.text


def test_a_doubt_ends_with_a_credit(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        poster = Poster(database, tmp_path)
        log = new_log(tmp_path, poster)
        charge(log)
        drop(log)
        poster.adopt()
        (event,) = events(database)
        with database.write() as connection:
            ledger.credit(connection, [event])
        assert (events(database)[event].in_doubt, balance(database, f"spend:{PROJECT}")) == (False, 0)


def test_logs_are_deleted_long_after_they_were_posted(tmp_path):
    with books(sqlite_url(tmp_path / "a.db")) as database:
        poster = Poster(database, tmp_path)
        log, alive = new_log(tmp_path, poster), new_log(tmp_path, poster)
        log.close()
        poster.drain(log)
        assert poster.sweep(3600.0) == 0
        assert poster.sweep(-1.0) == 1
        assert not log.path.exists()
        assert alive.path.exists()
        alive.close()
