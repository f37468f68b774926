"""Pages of a list."""

import pytest
from sqlalchemy import select

from aimass.core.errors import UsageError
from aimass.store.paging import Page, fetch
from aimass.store.tables import projects

IDS = [f"x-{number}" for number in range(1, 8)]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_together_are_the_whole_list(database, limit, order):
    with database.write() as connection:
        for id in IDS:
            connection.execute(projects.insert().values(id=id, name=id, created=0))
    found, after, more = [], None, True
    listing = select(projects).where(projects.c.name.like("x-%"))
    with database.read() as connection:
        while more:
            rows, more = fetch(connection, listing, projects.c.id, Page(after=after, limit=limit, order=order))
            assert 1 <= len(rows) <= limit
            found += [row.id for row in rows]
            after = found[-1]
    assert found == (IDS if order == "asc" else IDS[::-1])


def test_a_page_goes_on_behind_an_entry_that_is_gone(database):
    with database.read() as connection:
        rows, more = fetch(connection, select(projects), projects.c.id, Page(after="proj-aa", order="asc"))
    assert ([row.id for row in rows], more) == (["proj-b"], False)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -1}, {"limit": 10_001}, {"order": "up"}])
def test_a_page_that_cannot_be_says_what_can(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Page(**wrong)
