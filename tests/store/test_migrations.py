"""The migrations make exactly the tables that the code names, whoever runs them and how often."""

import subprocess
import sys

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from aimass.core.errors import UsageError
from aimass.store.database import Database
from aimass.store.migrations import configuration, migrate
from aimass.store.tables import metadata

OPEN = "import sys; from aimass.store.database import Database; Database.open(sys.argv[1]).close()"


def differences(database):
    with database.read() as connection:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)


def test_the_migrations_equal_the_tables(database):
    assert differences(database) == []
    assert len(inspect(database.engine).get_table_names()) == len(metadata.tables) + 1


def test_a_missing_column_would_be_seen(database):
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE aliases DROP COLUMN updated")
    assert [what for what, *_ in differences(database)] == ["add_column"]


def test_processes_that_open_a_new_database_at_once_migrate_it_once(database_url):
    processes = [subprocess.Popen([sys.executable, "-c", OPEN, database_url], stderr=subprocess.PIPE) for _ in range(4)]
    ends = [(process.communicate(timeout=120)[1].decode(), process.returncode) for process in processes]
    assert ends == [("", 0)] * 4
    database = Database.open(database_url)
    assert differences(database) == []
    database.close()


def test_what_is_there_stays_when_a_database_is_opened_again(database):
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO revisions (name, number) VALUES ('keys', 7)")
    migrate(database.engine)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT number FROM revisions").scalar() == 7


def test_a_step_back_and_forth_leaves_the_tables_as_they_were(database_url):
    database = Database.open(database_url)
    with database.write() as connection:
        command.downgrade(configuration(connection), "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    migrate(database.engine)
    assert differences(database) == []
    database.close()


def test_a_database_of_a_newer_release_is_left_alone(database):
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UsageError, match="'9999' of a newer release; update aimass"):
        migrate(database.engine)


def test_references_are_kept_after_a_migration(database):
    with pytest.raises(Exception, match=r"(?i)foreign key"), database.write() as connection:
        connection.exec_driver_sql("INSERT INTO aliases (model_id, name, number, updated) VALUES ('none', 'a', 1, 0)")
