"""Workers come, go, hang and change in number; what they have done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aimass.core.events import Event


@dataclass(frozen=True, kw_only=True)
class WorkerStarted(Event):
    """A worker process runs; `replaces_dead` says that another had its place before."""

    kind = "worker_started"
    worker: int
    pid: int
    replaces_dead: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkerLost(Event):
    """A worker ended before its time."""

    kind = "worker_lost"
    worker: int
    pid: int
    how: str
    inside_push: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkerLeft(Event):
    """A worker has finished its batch and left, as it was asked to."""

    kind = "worker_left"
    worker: int
    pid: int


@dataclass(frozen=True, kw_only=True)
class WorkerStuck(Event):
    """A worker that held a lock or was stopped by a signal, and did not move, was killed."""

    kind = "worker_stuck"
    worker: int
    pid: int
    stuck_s: float


@dataclass(frozen=True, kw_only=True)
class WorkerStates(Event):
    """What each worker was at when an epoch ended: its `state` (`COMPUTE`, `EXCHANGE`, `WAIT` or `IDLE`), s = (`clock` of the parameters
    that its last push was computed at, its own `iteration`), and the seconds that it has spent in each state since the run began or was
    resumed."""

    kind = "worker_states"
    epoch: int
    workers: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Scaled(Event):
    """The run has another number of workers from now on; `reason` is `asked`, or why one cannot go on."""

    kind = "scaled"
    workers: int
    before: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class DriverPaused(Event):
    """The process that watches the workers stood still, stopped or starved. Nobody is held to a deadline that passed meanwhile."""

    kind = "driver_paused"
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LeaseReassigned(Event):
    """A lease goes on under a new epoch, from the first batch that was not committed."""

    kind = "lease_reassigned"
    lease: int
    epoch: int
    from_batch: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class TasksDone(Event):
    """Who did how many tasks of an epoch (`counts`) and which (`tasks`, by worker; left out where there are more than a thousand).
    `taken_again` tells how often a task was taken by which somebody died, was late or left before it was done."""

    kind = "tasks_done"
    epoch: int
    counts: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, list[int]] = field(default_factory=dict)
    taken_again: dict[str, int] = field(default_factory=dict)
