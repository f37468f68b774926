"""Whether a run is well: what it costs, what goes wrong, and what was done about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aimass.core.events import Event


@dataclass(frozen=True, kw_only=True)
class WorkersSampled(Event):
    """What each process of the run costs, and what it gets done."""

    kind = "workers_sampled"
    driver: dict[str, Any] = field(default_factory=dict)
    workers: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class WorkerStalled(Event):
    """A worker does not get on, and others may be waiting for it. `worker` is None for the run's own process; `place` is the innermost
    line of `stack`."""

    kind = "worker_stalled"
    worker: int | None
    pid: int
    operation: str
    still_s: float
    is_stopped: bool = False
    place: str | None = None
    stack: str | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerRecovered(Event):
    """One that was named by `worker_stalled` gets on again."""

    kind = "worker_recovered"
    worker: int | None
    pid: int
    after_s: float


@dataclass(frozen=True, kw_only=True)
class GradientRefused(Event):
    """Gradients that held NaN or infinity were not applied."""

    kind = "gradient_refused"
    worker: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Diverged(Event):
    """The training loss ran away from `reference`, its average before, or gradients were refused in a row (`cause` is `loss` or
    `refused`)."""

    kind = "diverged"
    step: int
    cause: str
    loss: float | None
    reference: float | None
    message: str


@dataclass(frozen=True, kw_only=True)
class RolledBack(Event):
    """The run went back to an earlier step, and learns on with every rate multiplied by `rate_factor`."""

    kind = "rolled_back"
    from_step: int
    to_step: int
    rate_factor: float
    rollback: int


@dataclass(frozen=True, kw_only=True)
class FitJudged(Event):
    """The curves say that the model overfits or underfits."""

    kind = "fit_judged"
    verdict: str
    since_epoch: int
    message: str


@dataclass(frozen=True, kw_only=True)
class WebhookFailed(Event):
    """Word of an event could not be delivered. It is said once; the others are still tried."""

    kind = "webhook_failed"
    reason: str
