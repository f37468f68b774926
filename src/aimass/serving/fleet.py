"""The engines' processes: started when needed, started again when they die, killed when they hang, ended with the service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from aimass.core.errors import AimassError, Unavailable
from aimass.serving.engines import Engine, EngineEvent, Served
from aimass.serving.link import EngineLink
from aimass.serving.process import EngineProcess

HANG_FORECASTS = 20
_QUICK_DEATH_S = 10.0
_LONGEST_DELAY_S = 10.0


@dataclass
class _Loss:
    """What an engine had when it died."""

    held: list[Served] = field(default_factory=list)
    in_flight: int = 0


class Fleet:
    """A fixed number of places for engines.

    Args:
        home: where their logs lie.
        num_engines: how many places.
        budget_bytes: what the models of one engine may take.
        threads: computing threads of each.
        hang_s: an engine whose oldest request is older than this, and than 20 times its forecast, is killed.
        tell: hears every event.
        lost: is told of an engine that died and of the models it held.
    """

    def __init__(
        self,
        *,
        home: Path,
        num_engines: int,
        budget_bytes: int,
        threads: int,
        hang_s: float,
        tell: Callable[[EngineEvent], None],
        lost: Callable[[Engine, list[Served]], None],
    ) -> None:
        self._home, self._threads, self._hang_s, self._tell_lost = home, threads, hang_s, lost
        self.engines = [Engine(tell, budget_bytes) for _ in range(num_engines)]
        self._starts: dict[str, asyncio.Task[None]] = {}
        self._guards: set[asyncio.Task[None]] = set()
        self.closing = False

    async def up(self, engine: Engine) -> None:
        """Have an engine that can be asked; whoever comes second waits with the first.

        Raises:
            Unavailable: it did not start, or the service is stopping.
        """
        if engine.ready:
            return
        if self.closing:
            raise Unavailable("the service is stopping; try again in a moment")
        start = self._starts.get(engine.id)
        if start is None:
            start = self._starts[engine.id] = asyncio.create_task(self._start(engine))
            start.add_done_callback(lambda task: self._starts.pop(engine.id, None) and (task.cancelled() or task.exception()))
        await asyncio.shield(start)

    async def _start(self, engine: Engine) -> None:
        if engine.deaths > 1:
            await asyncio.sleep(min(0.1 * 2 ** (engine.deaths - 2), _LONGEST_DELAY_S))
        before = time.monotonic()
        engine.state, engine.started_at = "starting", time.time()
        process = engine.process = EngineProcess(engine.id, self._home, self._threads)
        engine.happened("started", pid=process.pid)
        try:
            link = await process.ready()
        except BaseException as error:
            engine.deaths += 1
            engine.state, engine.process = "lost", None
            await process.end()
            if not self.closing:
                engine.happened("lost", reason=told(error))
            raise
        engine.link, engine.state = link, "ready"
        engine.happened("ready", pid=process.pid, took_s=round(time.monotonic() - before, 3))
        loss = _Loss()
        link.when_lost = lambda: self._let_go(engine, loss)
        guard = asyncio.create_task(self._guard(engine, process, link, loss))
        self._guards.add(guard)
        guard.add_done_callback(self._guards.discard)

    def _let_go(self, engine: Engine, loss: _Loss) -> None:
        """An engine's connection has ended: nobody is sent there from now on."""
        engine.link, engine.process, engine.state, engine.memory_bytes = None, None, "lost", 0
        loss.held = [model for wire, model in engine.holds.items() if wire not in engine.arriving]
        loss.in_flight = len(engine.flights)
        engine.forget()
        for model in loss.held:
            if engine in model.holders:  # else it was on its way out
                model.holders.remove(engine)
        quick = engine.started_at is not None and time.time() - engine.started_at < _QUICK_DEATH_S
        engine.deaths = engine.deaths + 1 if quick else 1

    async def _guard(self, engine: Engine, process: EngineProcess, link: EngineLink, loss: _Loss) -> None:
        """Wait for an engine's end, collect it, and say what was lost with it."""
        reason = await link.lost
        code = await process.end()
        if not self.closing:
            engine.happened("lost", reason=reason, exit_code=code, in_flight=loss.in_flight)
            self._tell_lost(engine, loss.held)

    def kill_hung(self, now: float) -> None:
        """Kill the engines that have not answered their oldest request for far longer than was forecast."""
        for engine in self.engines:
            if engine.process is None or not engine.flights:
                continue
            asked, forecast_s, model = next(iter(engine.flights.values()))
            if now - asked > max(self._hang_s, HANG_FORECASTS * forecast_s):
                engine.happened("hung", model=model.label, waited_s=round(now - asked, 3), forecast_s=round(forecast_s, 6))
                engine.process.kill()

    def measure(self) -> None:
        """Note what memory each engine takes."""
        for engine in self.engines:
            if engine.process is not None:
                try:
                    engine.memory_bytes = psutil.Process(engine.process.pid).memory_info().rss
                except psutil.Error:
                    continue  # it has just ended; its guard will say so

    async def close(self) -> None:
        """End all engines, and wait until they are gone."""
        self.closing = True
        for start in list(self._starts.values()):
            start.cancel()
        await asyncio.gather(*list(self._starts.values()), return_exceptions=True)
        await asyncio.gather(*(self._stop(engine) for engine in self.engines))
        await asyncio.gather(*self._guards, return_exceptions=True)

    async def _stop(self, engine: Engine) -> None:
        process, link = engine.process, engine.link
        if process is None or link is None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(5):
                await asyncio.shield(link.lost)
        except TimeoutError:
            process.kill()
        engine.state = "stopped"
        engine.happened("stopped")


def told(error: BaseException) -> str:
    """An error as an event's text."""
    return str(error) if isinstance(error, AimassError) else f"{type(error).__name__}: {error}"
