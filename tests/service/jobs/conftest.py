"""A place for jobs, and a service of them."""

import pytest
from databases import sqlite
from jobplace import Place


@pytest.fixture
def place(tmp_path):
    """A database, stores, a project."""
    found = Place(sqlite(tmp_path), tmp_path / "platform")
    yield found
    found.database.close()


@pytest.fixture
def jobs(place):
    """A service's jobs, started; its drivers end with it."""
    found = place.jobs()
    found.start()
    yield found
    found.close(stop_drivers=True)
