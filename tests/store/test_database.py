"""Transactions: what both databases promise alike, and SQLite under many writers."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError, StatementError

from aimass.core.errors import StorageError, Unavailable, UsageError
from aimass.store.database import Database, sqlite_url
from aimass.store.sqlite import PATIENCE_S
from aimass.store.tables import idempotency, projects, revisions

WRITE = """
import sys, threading
from aimass.store.database import Database
from aimass.store.tables import revisions

database, turns = Database.open(sys.argv[1]), int(sys.argv[2])

def count():
    for _ in range(turns):
        with database.write() as connection:
            number = connection.execute(revisions.select()).one().number
            connection.execute(revisions.update().values(number=number + 1))
        with database.read() as connection:
            assert connection.execute(revisions.select()).one().number > number

threads = [threading.Thread(target=count) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def count(database):
    with database.read() as connection:
        return connection.execute(select(revisions.c.number)).scalar()


@pytest.fixture
def counter(database):
    with database.write() as connection:
        connection.execute(revisions.insert().values(name="count", number=0))
    return database


def test_a_block_that_raises_leaves_nothing(counter):
    with pytest.raises(InterruptedError), counter.write() as connection:
        connection.execute(update(revisions).values(number=1))
        raise InterruptedError
    assert count(counter) == 0


def test_a_reader_sees_one_moment(counter):
    with counter.read() as reader:
        before = reader.execute(select(revisions.c.number)).scalar()
        with counter.write() as writer:
            writer.execute(update(revisions).values(number=1))
        assert reader.execute(select(revisions.c.number)).scalar() == before == 0
    assert count(counter) == 1


def test_a_reader_cannot_write(counter):
    with pytest.raises(Exception, match=r"(?i)read-?only"), counter.read() as connection:
        connection.execute(update(revisions).values(number=1))
    with counter.write() as connection:
        connection.execute(update(revisions).values(number=2))
    assert count(counter) == 2


def test_a_broken_rule_comes_as_it_is(database):
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(insert(projects).values(id="proj-c", name="a", created=0))


def test_an_upsert_is_the_same_on_both(counter):
    statement = counter.insert(revisions).values(name="count", number=1)
    with counter.write() as connection:
        connection.execute(statement.on_conflict_do_nothing())
        changed = statement.on_conflict_do_update(index_elements=["name"], set_={"number": revisions.c.number + 5})
        assert connection.execute(changed.returning(revisions.c.number)).scalar() == 5


def test_nothing_in_a_json_column_answers_to_is_null(database):
    with database.write() as connection:
        connection.execute(
            insert(idempotency).values(project_id="proj-a", key="k", request_hash="", headers=None, created=0, lease_until=0)
        )
        assert connection.scalar(select(idempotency.c.key).where(idempotency.c.headers.is_(None))) == "k"


def test_a_number_that_json_lacks_is_refused(database):
    with pytest.raises((StatementError, ValueError), match="JSON compliant"), database.write() as connection:
        connection.execute(_event(data={"loss": math.nan}))


@pytest.mark.parametrize("text", ["half \ud800 of a character", 2**70])
def test_a_value_that_no_database_holds_is_the_callers_mistake(database, text):
    values = {"name": "a", "number": text} if isinstance(text, int) else {"name": text, "number": 1}
    with pytest.raises(UsageError, match="cannot hold a value"), database.write() as connection:
        connection.execute(insert(revisions).values(**values))


def test_threads_wait_for_each_other(counter):
    def one(_):
        with counter.write() as connection:
            number = connection.execute(select(revisions.c.number).with_for_update()).scalar()
            connection.execute(update(revisions).values(number=number + 1))

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(one, range(120)))
    assert count(counter) == 120


def test_a_transaction_inside_another_is_refused_rather_than_waited_for(counter):
    with pytest.raises(AssertionError, match="pass the connection on"), counter.write(), counter.write():
        pass
    with counter.write() as connection:
        connection.execute(update(revisions).values(number=1))
    assert count(counter) == 1


def test_processes_and_threads_on_one_file_are_never_told_that_it_is_locked(tmp_path):
    url = sqlite_url(tmp_path / "a.db")
    database = Database.open(url)
    with database.write() as connection:
        connection.execute(revisions.insert().values(name="count", number=0))
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, url, "25"], stderr=subprocess.PIPE) for _ in range(4)]
    ends = [(process.communicate(timeout=200)[1].decode(), process.returncode) for process in writers]
    assert ends == [("", 0)] * 4
    assert count(database) == 4 * 4 * 25
    database.close()


def test_a_new_file_can_be_opened_by_many_at_once(tmp_path):
    for turn in range(5):
        url = sqlite_url(tmp_path / f"{turn}.db")
        barrier = threading.Barrier(6)

        def one(url=url, barrier=barrier):
            database = Database(url)
            barrier.wait()
            with database.write() as connection:
                connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (a)")
                connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            database.close()

        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(one) for _ in range(6)]:
                done.result()


def test_a_killed_writer_leaves_what_it_was_told_is_there(tmp_path):
    url = sqlite_url(tmp_path / "a.db")
    database = Database.open(url)
    with database.write() as connection:
        connection.execute(revisions.insert().values(name="count", number=0))
    program = """
import sys
from aimass.store.database import Database
from aimass.store.tables import revisions
database, number = Database(sys.argv[1]), int(sys.argv[2])
while True:
    number += 1
    with database.write() as connection:
        connection.execute(revisions.update().values(number=number))
    print(number, flush=True)
"""
    told = 0
    for pause_s in (0.0, 0.05, 0.13):
        with subprocess.Popen([sys.executable, "-c", program, url, str(count(database))], stdout=subprocess.PIPE) as writer:
            first = writer.stdout.readline()
            time.sleep(pause_s)
            os.kill(writer.pid, signal.SIGKILL)
            lines = [int(line) for line in (first + writer.stdout.read()).splitlines()]
        told = max([told, *lines])
        assert told <= count(database) <= told + 1
    database.close()


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "a.db"
    path.write_bytes(b"hello, this is not a database at all" * 100)
    with pytest.raises(StorageError, match=f"{path} is no SQLite database"):
        Database.open(sqlite_url(path))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Database.open(sqlite_url(tmp_path / "file" / "a.db"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://a/b", "nonsense", ""])
def test_a_url_that_is_none_says_what_is_one(url):
    with pytest.raises(UsageError, match="sqlite"):
        Database(url)


def test_a_server_that_is_away_is_named_without_its_password():
    with pytest.raises(StorageError, match="does not answer") as told:
        Database.open("postgresql://someone:secret@127.0.0.1:1/none")
    assert "secret" not in str(told.value)
    with pytest.raises(StorageError, match="does not answer") as told:
        Database.open("postgresql://127.0.0.1:1/none?user=someone&password=secret")
    assert "secret" not in str(told.value)


def test_an_error_does_not_repeat_what_was_to_be_written(database):
    with pytest.raises(IntegrityError) as told, database.write() as connection:
        connection.execute(insert(projects).values(id="proj-a", name="whatever is secret", created=0))
    assert "whatever is secret" not in str(told.value)


def test_a_writer_whose_turn_does_not_come_is_told_so(tmp_path, monkeypatch):
    assert PATIENCE_S >= 60
    monkeypatch.setattr("aimass.store.sqlite.PATIENCE_S", 0.05)
    url = sqlite_url(tmp_path / "a.db")
    first, second = Database.open(url), Database(url)
    with first.write(), pytest.raises(Unavailable, match="try again"), second.write():
        pass
    with second.write() as connection:
        connection.execute(revisions.insert().values(name="count", number=0))
    assert count(first) == 0
    first.close()
    second.close()


def _event(data):
    from aimass.store.tables import engine_events

    return insert(engine_events).values(id="ev-1", service="s", engine="e", time=0, type="ready", data=data)
