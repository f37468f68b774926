"""What the tests of the store need: both databases, and something in them."""

import time

import pytest
from databases import database_url

from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.registry import Registry
from aimass.store.tables import projects

__all__ = ["database_url"]


@pytest.fixture
def database(database_url):
    database = Database.open(database_url)
    with database.write() as connection:
        connection.execute(projects.insert().values(id="proj-a", name="a", created=time.time()))
        connection.execute(projects.insert().values(id="proj-b", name="b", created=time.time()))
    yield database
    database.close()


@pytest.fixture
def blobs(tmp_path):
    return Blobs(str(tmp_path / "blobs"))


@pytest.fixture
def registry(database, blobs):
    return Registry(database, blobs)
