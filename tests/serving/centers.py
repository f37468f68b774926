"""Scheduler Centers with real engines: one for a test alone, and one that the tests of a module share."""

import asyncio
import time

import uvloop
from processes import is_running

from aimass.serving.scheduler_center import SchedulerCenter

BUDGET_BYTES = 1 << 30
HANG_S = 200.0  # no machine is so slow; tests of what hangs set another


async def _open(home, events, **options):
    center = SchedulerCenter(
        **{"home": home, "num_engines": 1, "budget_bytes": BUDGET_BYTES, "hang_s": HANG_S, "tell": events.append, **options}
    )
    await center.start()
    return center


def _assert_gone(pids):
    assert [pid for pid in pids if is_running(pid)] == []


def _started(events):
    return [event.data["pid"] for event in events if event.type == "started"]


def alone(home, work, **options):
    """Run `work(center, events)` with a center of its own; afterwards no engine is left."""
    events = []

    async def inside():
        center = await _open(home, events, **options)
        try:
            return await work(center, events)
        finally:
            await center.close()

    try:
        return uvloop.run(inside())
    finally:
        _assert_gone(_started(events))


class SharedCenter:
    """A center whose loop runs while a test does. Each test finds all engines up, no model, and no event yet."""

    def __init__(self, home, num_engines):
        self._home, self._num_engines = home, num_engines
        self._events, self._pids, self._runner = [], [], None

    def run(self, work):
        """Run `work(center, events)`. A test that fails takes the center with it, so that no other fails of what it left."""
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
            self._center = self._runner.run(_open(self._home, self._events, num_engines=self._num_engines))
        try:
            return self._runner.run(self._run(work))
        except BaseException:
            self.close()
            raise

    async def _run(self, work):
        center, fleet = self._center, self._center._fleet
        for version_id in {target.version_id for target in center._served}:
            await center.unload(version_id)
        center._is_current, fleet._hang_s = lambda target: True, HANG_S
        center._quarantine._records.clear()
        for engine in fleet.engines:
            engine.deaths, engine.pace, engine.budget_bytes = 0, 1.0, BUDGET_BYTES
            await fleet.up(engine)
        self._forget()
        return await work(center, self._events)

    def _forget(self):
        self._pids += _started(self._events)
        self._events.clear()

    def close(self):
        """End the engines."""
        if self._runner is None:
            return
        self._runner.run(self._center.close())
        self._runner.close()
        self._runner = None
        self._forget()
        _assert_gone(self._pids)


async def until(condition, limit_s=120, every_s=0.02):
    """Wait on the loop until something is so."""
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(every_s)
    return found


def kinds(events):
    """The types of events, in their order."""
    return [event.type for event in events]
