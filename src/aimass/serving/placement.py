"""Which models lie on which engines: loaded on demand within a budget of bytes, the least useful evicted, busy ones copied.

The use of a model is what it would cost to be without it, by the bytes that it takes: requests a second × seconds to load ÷ bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from aimass.core.errors import TooLarge, Unavailable
from aimass.serving.engines import Engine, Served
from aimass.serving.fleet import Fleet
from aimass.serving.link import EngineLost, error_of

LOAD_LIMIT_S = 120.0
ROOM_LIMIT_S = 30.0
_START_GUESS_S = 3.0
_PAYS_WITHIN_S = 10.0
_LOOK_AGAIN_S = 0.02
_PATIENCE_S = 2.0  # after which models in use are kept from new requests, so that one that has no place gets its turn


class _Crowded(Unavailable):
    """A model takes more than was thought, and what lies beside it is in use."""


def use(model: Served) -> float:
    """Seconds of loading that it saves, a second and byte."""
    return model.rate.per_s * model.load_s / max(model.bytes, 1)


def least_useful(engine: Engine, need_bytes: int, *, in_use: bool = False) -> list[Served] | None:
    """The models to evict so that `need_bytes` fit, the least useful first; None where even that is not enough.

    Args:
        in_use: whether those that have requests in flight count too.
    """
    over = engine.used_bytes() + need_bytes - engine.budget_bytes
    chosen: list[Served] = []
    found = [model for wire, model in engine.holds.items() if wire not in engine.arriving and (in_use or wire not in engine.flying)]
    for model in sorted(found, key=lambda each: (use(each), each.last_used)):
        if over <= 0:
            break
        chosen.append(model)
        over -= model.bytes
    return chosen if over <= 0 else None


class Placement:
    """Brings models to engines.

    Args:
        fleet: the engines.
        blame: is told of a model whose loading ended an engine.
    """

    def __init__(self, fleet: Fleet, blame: Callable[[Served], None]) -> None:
        self._fleet, self._blame = fleet, blame
        self._copies: set[asyncio.Task[None]] = set()

    async def bring(self, model: Served) -> None:
        """Have a model on an engine; whoever comes while it is being loaded waits for the same load.

        Raises:
            TooLarge: no engine may hold so much.
            Unavailable: no engine had room in time, or the engine died of it.
            AimassError: what the engine said of the model's files.
        """
        if model.loading is None:
            model.loading = asyncio.create_task(self._bring(model))
            model.loading.add_done_callback(lambda task: _ended(model, task))
        await asyncio.shield(model.loading)

    async def _bring(self, model: Served) -> None:
        for is_last in (False, True):
            engine = await self._room(model)
            try:
                await self._load(engine, model)
                return
            except EngineLost:
                self._blame(model)
            except _Crowded:  # its size was a guess until now
                if is_last:
                    raise
        raise Unavailable(f"engines ended twice while they loaded {model.label}; look at its files, and at the engines' logs")

    async def _room(self, model: Served) -> Engine:
        """An engine with room for a model, reserved. Waits while all room is in use, and in the end has some made."""
        began, drained = time.monotonic(), list[tuple[Engine, Served]]()
        try:
            while True:
                engine = self._best(model)
                if engine is not None:
                    for other in least_useful(engine, model.bytes) or ():
                        self.evict(engine, other, why=f"room for {model.label}")
                    engine.holds[model.wire] = model
                    engine.arriving.add(model.wire)
                    return engine
                waited_s = time.monotonic() - began
                if waited_s > ROOM_LIMIT_S:
                    raise self._no_room(model)
                if waited_s > _PATIENCE_S and not drained:
                    drained = self._drain(model)
                await asyncio.sleep(_LOOK_AGAIN_S)
        finally:
            for engine, other in drained:
                if engine.holds.get(other.wire) is other and engine not in other.holders:
                    other.holders.append(engine)

    def _drain(self, model: Served) -> list[tuple[Engine, Served]]:
        """Send no more to the least useful models of an engine, so that they can be evicted once what they have is answered."""
        ways = [
            (engine, least_useful(engine, model.bytes, in_use=True)) for engine in self._fleet.engines if model.wire not in engine.holds
        ]
        open_ways = [(engine, out) for engine, out in ways if out]
        if not open_ways:
            return []
        engine, out = min(open_ways, key=lambda way: sum(each.rate.per_s * each.load_s for each in way[1]))
        drained = [(engine, other) for other in out if engine in other.holders]
        for _, other in drained:
            other.holders.remove(engine)
        return drained

    def _no_room(self, model: Served) -> Unavailable:
        busy = sorted({each.label for engine in self._fleet.engines for each in engine.holds.values()})
        return Unavailable(
            f"no engine has room for {model.label} ({_size(model.bytes)}) while {', '.join(busy)} are in use; "
            "try again, or raise engine_memory or the number of engines"
        )

    def _best(self, model: Served) -> Engine | None:
        """The engine on which loading costs least: room on a running one, a new one, room made by eviction."""
        self._refuse_too_large(model)
        costs: list[tuple[float, int, Engine]] = []
        for place, engine in enumerate(self._fleet.engines):
            out = least_useful(engine, model.bytes)
            if model.wire in engine.holds or out is None:
                continue
            lost = sum(each.rate.per_s * each.load_s for each in out) + 1.0 * len(out)
            costs.append((lost + (0.0 if engine.ready else _START_GUESS_S) + engine.waiting_s(model, 1), place, engine))
        return min(costs)[2] if costs else None

    async def _load(self, engine: Engine, model: Served) -> None:
        """Load a model on an engine that was reserved for it."""
        try:
            await self._fleet.up(engine)
            if engine.link is None:
                raise EngineLost("the engine ended as soon as it had started; try again")
            before, target = time.monotonic(), model.target
            engine.holds[model.wire] = model  # the engine may have begun anew meanwhile
            engine.arriving.add(model.wire)
            facts = {"folder": str(target.folder), "name": target.name, "version": target.version, "settings": dict(target.settings)}
            try:
                async with asyncio.timeout(LOAD_LIMIT_S):
                    reply, body = await engine.link.ask("load", model.wire, body=msgspec.msgpack.encode(facts))
            except TimeoutError:
                engine.happened("hung", model=model.label, waited_s=LOAD_LIMIT_S)
                if engine.process is not None:
                    engine.process.kill()
                raise Unavailable(f"{model.label} was not loaded within {LOAD_LIMIT_S:.0f} s") from None
            if reply.status >= 400:
                raise error_of(body, reply.status)
            took = time.monotonic() - before
            model.bytes, model.load_s = int(msgspec.msgpack.decode(body)["bytes"]), took
            self._fit(engine, model)
            engine.arriving.discard(model.wire)
            model.holders.append(engine)
            engine.happened("loaded", model=target.name, version=target.version, bytes=model.bytes, took_s=round(took, 3))
        except BaseException:
            engine.holds.pop(model.wire, None)
            engine.arriving.discard(model.wire)
            raise

    def _fit(self, engine: Engine, model: Served) -> None:
        """A loaded model may take more than its files did: make room for it, or let it go."""
        others = least_useful(engine, 0)
        if others is None:
            self._drop(engine, model)
            self._refuse_too_large(model)
            raise _Crowded(f"there is no room for {model.label} just now; try again in a moment")
        for other in others:
            self.evict(engine, other, why=f"room for {model.label}")

    def _refuse_too_large(self, model: Served) -> None:
        budget = self._fleet.engines[0].budget_bytes
        if model.bytes > budget:
            raise TooLarge(f"{model.label} takes {_size(model.bytes)}, and an engine may hold {_size(budget)}; raise engine_memory")

    def evict(self, engine: Engine, model: Served, *, why: str) -> None:
        """Take a model that has nothing in flight off an engine."""
        engine.holds.pop(model.wire, None)
        if engine in model.holders:
            model.holders.remove(engine)
        self._drop(engine, model)
        engine.happened("evicted", model=model.target.name, version=model.target.version, bytes=model.bytes, why=why)

    def lost(self, engine: Engine, model: Served) -> None:
        """An engine says that it does not hold a model. So it is, whatever was thought."""
        if engine in model.holders:
            model.holders.remove(engine)
            engine.holds.pop(model.wire, None)
            engine.happened("missing", model=model.target.name, version=model.target.version)

    def _drop(self, engine: Engine, model: Served) -> None:
        if engine.link is not None:
            engine.link.ask("unload", model.wire).add_done_callback(lambda reply: reply.cancelled() or reply.exception())

    def consider_copy(self, model: Served) -> None:
        """Give a busy model a second engine when the waiting that this saves soon outweighs the load."""
        if not model.holders or model.loading is not None:
            return
        wait_s = min(engine.waiting_s(model, 1) for engine in model.holders) - model.line.seconds(1)
        for engine in sorted(self._fleet.engines, key=lambda each: not each.ready):
            if model.wire in engine.holds or engine.used_bytes() + model.bytes > engine.budget_bytes:
                continue
            cost_s = model.load_s + (0.0 if engine.ready else _START_GUESS_S)
            if model.rate.per_s * wait_s / 2 * _PAYS_WITHIN_S > cost_s:
                self.copy(model, engine)
            return

    def copy(self, model: Served, engine: Engine) -> asyncio.Task[None]:
        """Load a model on one more engine, in the background."""
        engine.holds[model.wire] = model
        engine.arriving.add(model.wire)
        task = asyncio.create_task(self._load(engine, model))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def close(self) -> None:
        """Give up what is being copied."""
        for task in list(self._copies):
            task.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)


def _ended(model: Served, task: asyncio.Task[None]) -> None:
    model.loading = None
    if not task.cancelled():
        task.exception()  # those who waited have it


def _size(size_bytes: int) -> str:
    """Bytes for a person.

    >>> _size(3_200_000_000), _size(1_500)
    ('3.2 GB', '2 kB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes / 1e3:.0f} kB"
