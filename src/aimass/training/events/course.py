"""How a run goes: its beginning, where it stands, its epochs and its end."""

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
class RunEnded(Event):
    """Training is over. `reason` is what ended it: `epochs`, `max_steps`, `target`, `tolerance`, `patience`, `budget`, `cancelled` or
    `failed`."""

    kind = "run_ended"
    state: str
    reason: str
    message: str
    step: int
    metrics: dict[str, Any] = field(default_factory=dict)
