"""What is known of one engine: its process, its models, what it has in flight, how it has done. Nothing here decides anything."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aimass.core.ids import new_id
from aimass.serving.forecast import Line, Rate, Rows
from aimass.serving.link import EngineLink
from aimass.serving.ports import Target
from aimass.serving.process import EngineProcess

HISTORY = 50
_WINDOW = 2048
_LOAD_GUESS_S = 0.3
_LOAD_GUESS_BYTES_PER_S = 500e6
_BYTES_PER_VALUE = 20


@dataclass(frozen=True, kw_only=True)
class EngineEvent:
    """Something that happened to an engine: started, ready, loaded, evicted, lost, stopped, quarantined."""

    engine: str
    time: float
    type: str
    data: Mapping[str, Any] = field(default_factory=dict)


class Served:
    """A model version under a deployment's name: what is known of it on all engines.

    Args:
        target: what the directory said.
        wire: what engines call it.
        now: the clock.
    """

    def __init__(self, target: Target, wire: str, now: float) -> None:
        self.target, self.wire = target, wire
        self.line, self.rate = Line(), Rate(now)
        self.rows = Rows(bytes_per_row=max(40.0, _BYTES_PER_VALUE * len(target.signature.get("inputs", ())) or 200.0))
        self.bytes = target.bytes
        self.load_s = _LOAD_GUESS_S + target.bytes / _LOAD_GUESS_BYTES_PER_S
        self.holders: list[Engine] = []
        objective = target.settings.get("latency_ms")
        self.objective_s: float | None = None if objective is None else float(objective) / 1000
        self.loading: Any = None  # the task that brings it, while there is one
        self.last_used = now

    @property
    def label(self) -> str:
        """For sentences and events."""
        return f"{self.target.name} (version {self.target.version})"


class Engine:
    """One place for an engine, whose process may come and go.

    Args:
        tell: hears every event.
        budget_bytes: of models it may hold.
    """

    def __init__(self, tell: Callable[[EngineEvent], None], budget_bytes: int) -> None:
        self.id, self._tell, self.budget_bytes = new_id("eng"), tell, budget_bytes
        self.state = "stopped"
        self.started_at: float | None = None
        self.process: EngineProcess | None = None
        self.link: EngineLink | None = None
        self.holds: dict[str, Served] = {}  # by wire; what is being loaded counts too
        self.arriving: set[str] = set()
        self.flying: dict[str, int] = {}  # rows in flight by model
        self.flights: dict[int, tuple[float, float, Served]] = {}  # asked at, forecast in seconds, model
        self.pace = 1.0  # what requests took over what was forecast
        self.paced_at = 0.0
        self.requests = self.memory_bytes = 0
        self.deaths = 0  # in a row, each soon after a start
        self.history: deque[EngineEvent] = deque(maxlen=HISTORY)
        self._latencies: deque[float] = deque(maxlen=_WINDOW)
        self._flight = 0

    @property
    def ready(self) -> bool:
        """Whether it can be asked."""
        return self.link is not None

    def used_bytes(self) -> int:
        """What its models take."""
        return sum(model.bytes for model in self.holds.values())

    def waiting_s(self, model: Served, rows: int) -> float:
        """When it would have answered `rows` more rows of a model, in seconds from now."""
        flying = self.flying
        if not flying:
            return self.pace * model.line.seconds(rows)
        seconds, wire = 0.0, model.wire
        for other, under_way in flying.items():
            if other != wire:
                seconds += self.holds[other].line.seconds(under_way) if other in self.holds else 0.0
        return self.pace * (seconds + model.line.seconds(rows + flying.get(wire, 0)))

    def depart(self, model: Served, rows: int, forecast_s: float, now: float) -> int:
        """Note a request that is being sent; its number."""
        self._flight = number = self._flight + 1
        self.flights[number] = (now, forecast_s, model)
        self.flying[model.wire] = self.flying.get(model.wire, 0) + rows
        return number

    def land(self, number: int, rows: int, now: float, *, answered: bool) -> None:
        """Note that a request is no longer under way."""
        asked, forecast_s, model = self.flights.pop(number)
        left = self.flying.get(model.wire, 0) - rows
        if left > 0:
            self.flying[model.wire] = left
        else:
            self.flying.pop(model.wire, None)
        if answered:
            took = now - asked
            self.requests += 1
            self._latencies.append(took)
            ratio = took / forecast_s * self.pace
            self.pace += 0.05 * (min(max(ratio, 0.2), 1000.0) - self.pace)
            self.paced_at = now

    def relax(self, now: float, fastest: float) -> None:
        """An engine that nobody asks may have become faster: come back towards the fastest."""
        if not self.flights and now - self.paced_at > 1.0:
            self.pace += 0.2 * (fastest - self.pace)

    def forget(self) -> None:
        """Its process is gone, and so is what it had."""
        self.flying.clear()
        self.holds.clear()
        self.arriving.clear()

    def happened(self, kind: str, **data: Any) -> None:
        """Keep an event, and tell it."""
        event = EngineEvent(engine=self.id, time=time.time(), type=kind, data=data)
        self.history.append(event)
        self._tell(event)

    def describe(self) -> dict[str, Any]:
        """As `GET /v1/engines` shows it."""
        inside = sorted(self._latencies)
        state = "busy" if self.state == "ready" and self.flights else self.state
        models = [
            {"name": model.target.name, "version": model.target.version, "bytes": model.bytes}
            for wire, model in self.holds.items()
            if wire not in self.arriving
        ]
        predicted = sum(self.holds[wire].line.seconds(rows) for wire, rows in self.flying.items() if wire in self.holds) * self.pace
        return {
            "id": self.id,
            "object": "engine",
            "state": state,
            "pid": self.process.pid if self.process is not None else None,
            "models": models,
            "load": {"queued_rows": sum(self.flying.values()), "in_flight": len(self.flights), "predicted_ms": round(predicted * 1000, 3)},
            "latency_ms": {"p50": _quantile_ms(inside, 0.5), "p99": _quantile_ms(inside, 0.99)},
            "requests": self.requests,
            "memory_bytes": self.memory_bytes,
            "budget_bytes": self.budget_bytes,
            "started_at": self.started_at,
            "history": [{"time": event.time, "type": event.type, "data": dict(event.data)} for event in self.history],
        }


def _quantile_ms(inside: list[float], share: float) -> float | None:
    return round(inside[min(len(inside) - 1, int(len(inside) * share))] * 1000, 3) if inside else None
