import asyncio

import pytest
from misbehaving import Misbehaving, serving

from aimass.client import AsyncClient, Client

KEY = "am_0000_secret"


@pytest.fixture(scope="module")
def app():
    return Misbehaving()


@pytest.fixture(scope="module")
def url(app):
    with serving(app) as found:
        yield found


@pytest.fixture(params=["waits", "awaited"])
def use(request, url):
    """Does something with a client of either kind, and gives what comes of it; a list, where it is an iterator."""

    def waits(action, **options):
        with Client(url, KEY, **options) as client:
            found = action(client)
            return list(found) if hasattr(found, "__next__") else found

    async def awaited(action, **options):
        async with AsyncClient(url, KEY, **options) as client:
            found = action(client)
            return [entry async for entry in found] if hasattr(found, "__aiter__") else await found

    return waits if request.param == "waits" else lambda action, **options: asyncio.run(awaited(action, **options))
