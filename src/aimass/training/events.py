"""What can happen in a run. Each is kept, in order, in the run's `events.jsonl`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aimass.core.events import Event


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """Training begins, or goes on from a checkpoint (`resumed_at_step`), on these devices, in this precision. `workers` is the most that
    it may have, and `least_workers` the least, where that is another number."""

    kind = "run_started"
    data: str
    rows: int
    parameters: int
    strategy: str
    workers: int
    batches_per_epoch: int
    total_steps: int | None
    epochs: int | None
    resumed_at_step: int | None = None
    least_workers: int | None = None
    devices: list[str] = field(default_factory=list)
    precision: str = "float32"


@dataclass(frozen=True, kw_only=True)
class StartedFrom(Event):
    """The model does not begin afresh, or not all of it learns: which parameters were copied from the model that the run started from
    (`source`), which begin afresh, which layers have an adapter, how many numbers are learnt and how many stay, and a `warning` where
    most of what was learnt is not used."""

    kind = "started_from"
    source: str | None
    copied: list[str]
    fresh: list[str]
    adapters: list[str]
    trainable_parameters: int
    frozen_parameters: int
    warning: str | None = None


@dataclass(frozen=True, kw_only=True)
class PrecisionChosen(Event):
    """`precision="auto"` was decided by these seconds of a forward and backward pass; None where the model cannot compute in bf16."""

    kind = "precision_chosen"
    precision: str
    float32_s: float | None
    bf16_s: float | None


@dataclass(frozen=True, kw_only=True)
class OptimizerChosen(Event):
    """`optimizer="auto"` was decided, for this reason, by these figures of a few steps: seconds a step; bytes a second of memory; the time
    of Adam's update over a step's; the share of zeros in a gradient; the largest eigenvalue of the Hessian, None where there is none."""

    kind = "optimizer_chosen"
    optimizer: str
    lr: float
    reason: str
    step_s: float
    parameters: int
    bandwidth_bytes_s: float
    update_share: float
    sparsity: float
    curvature: float | None


@dataclass(frozen=True, kw_only=True)
class StrategyChosen(Event):
    """`strategy="auto"` was decided, for this reason. With two workers and more by these figures of a few steps: the slowest worker's speed
    over the fastest's; seconds a step; bytes a second of memory; the time of an exchange over a step's; the share of zeros in a
    gradient."""

    kind = "strategy_chosen"
    strategy: str
    settings: dict[str, Any]
    reason: str
    workers: int
    evenness: float | None = None
    step_s: float | None = None
    parameters: int | None = None
    bandwidth_bytes_s: float | None = None
    exchange_share: float | None = None
    sparsity: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSliced(Event):
    """A model is divided among workers. For each: `worker`, the `pieces` that it has where it has whole layers, `parameters`, the `bytes`
    that these, their gradients and the optimizer's states take, and `flops_per_row` of a forward pass where they were counted."""

    kind = "model_sliced"
    strategy: str
    slices: list[dict[str, Any]]


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
class WorkerStuck(Event):
    """A worker that held a lock or was stopped by a signal, and did not move, was killed."""

    kind = "worker_stuck"
    worker: int
    pid: int
    stuck_s: float


@dataclass(frozen=True, kw_only=True)
class LeaseReassigned(Event):
    """A lease goes on under a new epoch, from the first batch that was not committed."""

    kind = "lease_reassigned"
    lease: int
    epoch: int
    from_batch: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SupernodeReplaced(Event):
    """Another worker leads a group from now on, in place of worker `before`. `times` counts the replacements since the last such event."""

    kind = "supernode_replaced"
    group: int
    worker: int
    pid: int
    before: int
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class GroupsFormed(Event):
    """Workers go to groups of like speed. `unlike` says how many times as fast the fastest of a group is as its slowest, on average, and
    `before` how many times it was; of each group there are the workers, and the rows a second of each."""

    kind = "groups_formed"
    groups: list[dict[str, Any]]
    moved: list[int]
    unlike: float
    before: float


@dataclass(frozen=True, kw_only=True)
class GroupsSeen(Event):
    """The table of each group at an epoch's end: its supernode, and of each member process, rows, rows a second, and state."""

    kind = "groups"
    epoch: int
    groups: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Where the run stands; loss is the mean over the rows since the last such event."""

    kind = "progress"
    step: int
    epoch: float
    rows: int
    rows_per_s: float
    workers: int
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class EpochEnded(Event):
    """Every batch of an epoch is committed, and the validation rows were looked at."""

    kind = "epoch"
    epoch: int
    step: int
    train_loss: float | None
    validation: dict[str, float] = field(default_factory=dict)
    rows_per_s: float = 0.0
    elapsed_s: float = 0.0
    bytes_moved: int = 0
    is_best: bool = False


@dataclass(frozen=True, kw_only=True)
class TasksDone(Event):
    """Who did how many tasks of an epoch (`counts`) and which (`tasks`, by worker; left out where there are more than a thousand).
    `taken_again` tells how often a task was taken by which somebody died, was late or left before it was done."""

    kind = "tasks_done"
    epoch: int
    counts: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, list[int]] = field(default_factory=dict)
    taken_again: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BlocksOwned(Event):
    """Who owns which parameters: of each part of a tensor its `name`, its `start` inside the tensor, its `size`, and the `owner`."""

    kind = "blocks_owned"
    blocks: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class WorkerStates(Event):
    """What each worker was at when an epoch ended: its `state` (`COMPUTE`, `EXCHANGE`, `WAIT` or `IDLE`), s = (`clock` of the parameters
    that its last push was computed at, its own `iteration`), and the seconds that it has spent in each state since the run began or was
    resumed."""

    kind = "worker_states"
    epoch: int
    workers: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class GradientRefused(Event):
    """Gradients that held NaN or infinity were not applied."""

    kind = "gradient_refused"
    worker: int
    count: int


@dataclass(frozen=True, kw_only=True)
class CheckpointWritten(Event):
    """The state of a step is on disk. Training waited for `paused_s`; from the copy to the disk it took `took_s`."""

    kind = "checkpoint"
    step: int
    name: str
    paused_s: float = 0.0
    took_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CheckpointFailed(Event):
    """A checkpoint could not be written. Training goes on and tries again; this is told once, until it has worked again."""

    kind = "checkpoint_failed"
    step: int
    message: str


@dataclass(frozen=True, kw_only=True)
class CheckpointUnreadable(Event):
    """A checkpoint could not be read, and an older one is used."""

    kind = "checkpoint_unreadable"
    name: str
    reason: str


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
class FitJudged(Event):
    """The curves say that the model overfits or underfits."""

    kind = "fit_judged"
    verdict: str
    since_epoch: int
    message: str


@dataclass(frozen=True, kw_only=True)
class WorkersSampled(Event):
    """What each process of the run costs, and what it gets done."""

    kind = "workers_sampled"
    driver: dict[str, Any] = field(default_factory=dict)
    workers: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class WebhookFailed(Event):
    """Word of an event could not be delivered. It is said once; the others are still tried."""

    kind = "webhook_failed"
    reason: str


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """Training is over. `reason` is what ended it: `epochs`, `max_steps`, `target`, `tolerance`, `patience`, `budget`, `cancelled` or
    `failed`."""

    kind = "run_ended"
    state: str
    reason: str
    message: str
    step: int
    metrics: dict[str, Any] = field(default_factory=dict)
