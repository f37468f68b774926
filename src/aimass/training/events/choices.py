"""What was left to the run, and by which figures it decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aimass.core.events import Event


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
