"""The Scheduler Center: sends every request to the engine that will have answered it first.

For each engine that holds the model the center forecasts when it would be done, from what the engine has in flight, what its models
took so far, and its own pace; the least wins. A model that lies nowhere is loaded first. A request whose engine dies is asked once
more, and then alone: requests that are asked again go one at a time, so that a second death names its cause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aimass.core.errors import TooLarge, Unavailable
from aimass.serving.engines import Engine, EngineEvent, Served
from aimass.serving.fleet import Fleet, told
from aimass.serving.link import Answer, EngineLost, is_not_loaded
from aimass.serving.placement import Placement
from aimass.serving.ports import Target
from aimass.serving.quarantine import Quarantine

HANG_S = 10.0
_TICK_S = 0.5
_UNNAMED_S = 60.0


class SchedulerCenter:
    """Assigns requests to Prediction Engines. All methods run on one event loop.

    Args:
        home: the service's folder; the engines' logs lie in its `engines`.
        num_engines: at most this many; none runs before it is needed.
        budget_bytes: what the models of one engine may take.
        threads: computing threads of each engine.
        tell: hears every event; on the loop, so it must be quick.
        hang_s: an engine that has not answered for longer, and for 20 times what was forecast, is killed.
        is_current: whether a target is still what its name stands for; one that is not goes once nobody has asked for it for a while.
    """

    def __init__(
        self,
        *,
        home: Path,
        num_engines: int,
        budget_bytes: int,
        threads: int = 1,
        tell: Callable[[EngineEvent], None] = lambda event: None,
        hang_s: float = HANG_S,
        is_current: Callable[[Target], bool] = lambda target: True,
    ) -> None:
        self._fleet = Fleet(
            home=home, num_engines=num_engines, budget_bytes=budget_bytes, threads=threads, hang_s=hang_s, tell=tell, lost=self._lost
        )
        self._quarantine = Quarantine()
        self._placement = Placement(self._fleet, self._blame)
        self._served: dict[Target, Served] = {}
        self._is_current = is_current
        self._again_alone = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._generation = 0

    async def start(self, *, warm: bool = False) -> None:
        """Begin to watch; `warm` starts one engine in the background."""
        self._spawn(self._watch())
        if warm:
            self._spawn(self._fleet.up(self._fleet.engines[0]))

    async def close(self) -> None:
        """End all engines; what they have is answered first, within seconds."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._placement.close()
        await self._fleet.close()

    async def answer(self, target: Target, kind: str, body: bytes, json_length: int = 0, deadline_s: float | None = None) -> Answer:
        """Have a request answered.

        Args:
            target: the model version.
            kind: `predict` or `infer`.
            body: of the HTTP request, unread.
            json_length: how many bytes of an `infer`'s body are JSON; 0 where all are.
            deadline_s: from now; what cannot be answered by then is refused.

        Returns:
            the engine's reply and its body, which is the HTTP response's; also for a request that was at fault (status 400 and up).

        Raises:
            Unavailable: it cannot be answered in time, no engine has room, or engines died of it.
        """
        model = self._served.get(target)
        if model is None:
            model = self._meet(target)
        if deadline_s is None:
            return await self._answer(model, kind, body, json_length, None)
        try:
            async with asyncio.timeout(deadline_s):
                return await self._answer(model, kind, body, json_length, deadline_s)
        except TimeoutError:
            raise Unavailable(f"{model.label} did not answer within its deadline of {deadline_s * 1000:.0f} ms; allow more time") from None

    async def _answer(self, model: Served, kind: str, body: bytes, json_length: int, deadline_s: float | None) -> Answer:
        if not model.holders:
            await self._arrival(model, deadline_s)
        rows = model.rows.guess(len(body))
        engine, forecast_s = self._choose(model, rows)
        if forecast_s > model.load_s:
            self._placement.consider_copy(model)
        limit_s = model.objective_s if deadline_s is None else deadline_s
        if limit_s is not None and forecast_s > limit_s:
            raise _late(model, forecast_s, limit_s)
        model.rate.count += 1
        try:
            answer = await self._ask(engine, model, rows, forecast_s, kind, body, json_length)
        except EngineLost:
            return await self._ask_again(model, rows, kind, body, json_length)
        if answer[0].status != 503 or not is_not_loaded(answer[1]):
            return answer
        self._placement.lost(engine, model)
        if not model.holders:
            await self._arrival(model, deadline_s)
        engine, forecast_s = self._choose(model, rows)
        return await self._ask(engine, model, rows, forecast_s, kind, body, json_length)

    async def _ask(self, engine: Engine, model: Served, rows: int, forecast_s: float, kind: str, body: bytes, json_length: int) -> Answer:
        """Send a request to an engine, and learn from its reply."""
        if engine.link is None:
            raise EngineLost("the engine is gone; try again")
        link = engine.link
        asked = link.ask("answer", model.wire, kind, json_length, body)
        flight = engine.depart(model, rows, forecast_s, time.monotonic())
        try:
            answer = await asked
        except asyncio.CancelledError:  # the asker has left, and the engine is at it all the same: it may be what hangs
            left = link.outlive(asked)
            if left is None:
                engine.land(flight, rows, time.monotonic(), answered=False)
            else:
                left.add_done_callback(lambda late: _land_late(engine, flight, rows, late))
            raise
        except BaseException:
            engine.land(flight, rows, time.monotonic(), answered=False)
            raise
        engine.land(flight, rows, time.monotonic(), answered=True)
        reply = answer[0]
        if reply.rows and reply.status < 400:
            model.rows.learn(reply.rows, len(body))
            model.line.learn(reply.batch_rows, reply.compute_us * 1e-6 * reply.batch_rows / reply.rows)
        return answer

    async def _ask_again(self, model: Served, rows: int, kind: str, body: bytes, json_length: int) -> Answer:
        """Ask once more what was in flight on an engine that died; nothing was charged or sent of it."""
        async with self._again_alone:
            if not model.holders:
                await self._arrival(model, None)
            engine, forecast_s = self._choose(model, rows)
            try:
                return await self._ask(engine, model, rows, forecast_s, kind, body, json_length)
            except EngineLost:
                self._blame(model)
                raise Unavailable(f"engines ended twice while {model.label} answered this request; nothing was charged") from None

    def _choose(self, model: Served, rows: int) -> tuple[Engine, float]:
        """The engine that will have answered first, and in how many seconds."""
        holders = model.holders
        if not holders:
            raise Unavailable(f"{model.label} was just unloaded; try again")
        best, soonest_s = holders[0], holders[0].waiting_s(model, rows)
        if len(holders) > 1:
            for engine in holders:
                seconds = engine.waiting_s(model, rows)
                if seconds < soonest_s:
                    best, soonest_s = engine, seconds
        return best, soonest_s

    async def _arrival(self, model: Served, deadline_s: float | None) -> None:
        """Wait until a model lies on an engine. One that cannot arrive by the deadline is brought all the same."""
        self._quarantine.refuse(model, time.monotonic())
        if deadline_s is not None and model.load_s > deadline_s:
            self._spawn(self._placement.bring(model))
            raise _late(model, model.load_s, deadline_s)
        try:
            await self._placement.bring(model)
        except TooLarge as error:
            raise Unavailable(str(error)) from None

    async def load(self, target: Target, *, copies: int = 1) -> None:
        """Have a model on an engine, or on several.

        Raises:
            TooLarge: no engine may hold so much.
            Unavailable: no engine has room, or engines die of it.
            AimassError: what the engine said of the model's files.
        """
        model = self._meet(target)
        self._quarantine.forgive(model)
        if not model.holders:
            await self._placement.bring(model)
        for engine in self._fleet.engines:
            if len(model.holders) < copies and model.wire not in engine.holds:
                await self._placement.copy(model, engine)

    async def unload(self, version_id: str) -> None:
        """Take a version off all engines, once they have answered what they have of it."""
        for target in [target for target in self._served if target.version_id == version_id]:
            await self._let_go(self._served.pop(target))

    async def _let_go(self, model: Served) -> None:
        if model.loading is not None:
            await asyncio.wait([model.loading])
        await self._retire(model)

    async def _retire(self, model: Served) -> None:
        engines, model.holders = model.holders, []
        for engine in engines:
            while model.wire in engine.flying:
                await asyncio.sleep(0.01)
            if model.wire in engine.holds:
                self._placement.evict(engine, model, why="unloaded")

    def is_loaded(self, version_id: str) -> bool:
        """Whether a version lies on an engine that can answer just now."""
        return any(model.holders for target, model in self._served.items() if target.version_id == version_id)

    def engines(self) -> list[dict[str, Any]]:
        """Every engine's state, load, latency and history, as `GET /v1/engines` shows them."""
        return [engine.describe() for engine in self._fleet.engines]

    def _meet(self, target: Target) -> Served:
        """What is known of a target; other settings make it another model to the engines, beside the one that still answers."""
        model = next((model for model in self._served.values() if _is_same(model.target, target)), None)
        if model is None:
            self._generation += 1
            model = Served(target, f"{target.version_id}.{self._generation}", time.monotonic())
        else:
            del self._served[model.target]
            model.target = target
        self._served[target] = model
        return model

    def _lost(self, engine: Engine, held: list[Served]) -> None:
        """An engine died. What lies nowhere else is brought back."""
        now = time.monotonic()
        for model in held:
            known = self._served.get(model.target) is model
            if known and not model.holders and not self._quarantine.is_out(model, now):
                self._spawn(self._placement.bring(model))

    def _blame(self, model: Served) -> None:
        """An engine died of a model. One that does so again and again is left out for a while."""
        out_s = self._quarantine.strike(model, time.monotonic())
        if out_s is None:
            return
        for engine in model.holders[:]:
            engine.happened("quarantined", model=model.target.name, version=model.target.version, seconds=out_s)
        self._spawn(self._retire(model))

    async def _watch(self) -> None:
        """Twice a second: rates, hung engines, memory, copies, models that no name stands for any more."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            self._fleet.kill_hung(now)
            self._fleet.measure()
            for model in list(self._served.values()):
                if model.rate.has_counted or model.loading is not None:
                    model.last_used = now
                model.rate.tick(now)
                self._placement.consider_copy(model)
                if now - model.last_used > _UNNAMED_S and not self._is_current(model.target):
                    self._spawn(self._let_go(self._served.pop(model.target)))
            paces = [engine.pace for engine in self._fleet.engines if engine.ready]
            for engine in self._fleet.engines:
                engine.relax(now, min(paces, default=1.0))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._fleet.closing:
            self._fleet.engines[0].happened("failed", reason=told(error))


def _land_late(engine: Engine, flight: int, rows: int, reply: asyncio.Future[Answer]) -> None:
    """The engine is done with a request that nobody waits for any more."""
    answered = not reply.cancelled() and reply.exception() is None
    engine.land(flight, rows, time.monotonic(), answered=answered)


def _is_same(one: Target, other: Target) -> bool:
    """Whether two targets are one to the engines."""
    return one.version_id == other.version_id and one.name == other.name and dict(one.settings) == dict(other.settings)


def _late(model: Served, forecast_s: float, limit_s: float) -> Unavailable:
    """Refused at the door, since it would be late."""
    error = Unavailable(
        f"{model.label} would answer in about {forecast_s * 1000:.0f} ms, and {limit_s * 1000:.0f} ms are allowed; "
        "try again later, or allow more time"
    )
    error.retry_after_s = max(0.001, forecast_s - limit_s)
    return error
