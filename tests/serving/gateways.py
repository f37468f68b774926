"""A gateway on a real port, with real engines and a real bill; the directory knows a few keys and deployments."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop
from serving.engine.models import numeric

from aimass.billing.meter import Meter
from aimass.core.errors import NotFound, Unauthorized
from aimass.serving.gateway import Gateway
from aimass.serving.one_write import OneWriteProtocol
from aimass.serving.ports import Caller, Target
from aimass.serving.scheduler_center import SchedulerCenter
from aimass.store.database import Database
from aimass.store.tables import keys, projects

KEY = "am_00000000000000000000000001_secret"
HEADERS = {"authorization": f"Bearer {KEY}"}


def save(folder, model=None):
    """Save a model; its folder."""
    (model or numeric()).save(folder)
    return folder


def target(folder, name="small", version=1, **settings):
    """A deployment of a saved model."""
    size = sum(file.stat().st_size for file in Path(folder).iterdir())
    return Target("proj-1", name, name, version, f"ver-{name}-{version}", Path(folder), size, settings)


class Names:
    """A directory of one key and some deployments."""

    def __init__(self, *targets):
        self.targets = {each.name: each for each in targets}

    def caller(self, headers):
        if headers.get(b"authorization") != f"Bearer {KEY}".encode():
            raise Unauthorized("the key is unknown; check it")
        return Caller("proj-1", KEY[3:29], "inference")

    def target(self, caller, name, version):
        found = self.targets.get(name)
        if found is None or version not in (None, str(found.version)):
            raise NotFound(f"there is no deployment {name!r}; there are: {', '.join(self.targets)}")
        return found


async def rest(scope, receive, send):
    """Everything that the gateway hands on."""
    if scope["type"] == "http":
        body = b'{"rest": true}'
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


class Bill:
    """A meter that notes what it is told; `left` rows may be charged before the budget is used up."""

    def __init__(self, error=None):
        self.charges, self.marks, self.error = [], [], error

    def admit(self, project, item_cost_hint):
        return None

    async def reserve(self, project, amount):
        return None

    def charge(self, **charge):
        if self.error is not None:
            raise self.error
        self.charges.append(charge)
        return len(self.charges)

    def sent(self, ticket):
        self.marks.append(("sent", ticket))

    def credit(self, ticket):
        self.marks.append(("credit", ticket))


class Running:
    """A gateway that runs in a thread with a loop of its own."""

    def __init__(self, home, names, meter=None, num_engines=1, budget_bytes=1 << 30, hang_s=200.0, **options):
        self.events, self.names = [], names
        self._database = None if meter else Database.open(f"sqlite:///{home}/bill.db")
        self.meter = meter or Meter(self._database, home)
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # so that a long answer does not fit into the kernel
        self._listener.bind(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._make = lambda: SchedulerCenter(
            home=home, num_engines=num_engines, budget_bytes=budget_bytes, tell=self.events.append, hang_s=hang_s
        )
        self._options, self._ready, self._failure = options, threading.Event(), None
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()), name="gateway")

    async def _run(self):
        self.loop = asyncio.get_running_loop()
        self.center = self._make()
        self.gateway = Gateway(rest, self.names, self.meter, self.center, **self._options)
        config = uvicorn.Config(self.gateway, log_level="error", access_log=False, http=OneWriteProtocol, lifespan="off")
        self._server = uvicorn.Server(config)
        await self.center.start()
        try:
            self._ready.set()
            await self._server.serve([self._listener])
        finally:
            await self.center.close()

    def do(self, coroutine, limit_s=60):
        """Run a coroutine of the center on its loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(limit_s)

    def pids(self):
        return [engine["pid"] for engine in self.center.engines() if engine["pid"]]

    def kinds(self):
        return [event.type for event in self.events]


@contextmanager
def running(home, *targets, **options):
    """A gateway for a block of a test; its engines end with it."""
    gateway = Running(home, Names(*targets), **options)
    if gateway._database is not None:
        with gateway._database.write() as connection:
            connection.execute(projects.insert().values(id="proj-1", name="one", created=0.0))
            connection.execute(keys.insert().values(id=KEY[3:29], project_id="proj-1", name="one", role="inference", hash="", created=0.0))
        gateway.meter.start()
    gateway._thread.start()
    try:
        assert gateway._ready.wait(60)
        yield gateway
    finally:
        gateway._server.should_exit = True
        gateway._thread.join(60)
        assert not gateway._thread.is_alive()
        if gateway._database is not None:
            gateway.meter.close()
            gateway._database.close()
        gateway._listener.close()


def until(condition, limit_s=60):
    """Wait until something is so."""
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
    return found


def row(columns=("a", "b", "c")):
    """One row for a model of numbers."""
    return dict.fromkeys(columns, 1.0)
