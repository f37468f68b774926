"""Everything that can be set about a training run, in one tree, with each default in one place. Nothing here imports torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from aimass.core.config import Config, Seconds
from aimass.core.errors import UsageError
from aimass.core.patterns import read_patterns
from aimass.models.config import CUSTOM, ModelConfig, parse_model
from aimass.models.losses import read_loss
from aimass.models.transfer.config import AdapterConfig
from aimass.optim.config import METHODS, ClipConfig, OptimizerConfig, ScheduleConfig
from aimass.training.health.config import HealthConfig, parse_health
from aimass.training.strategy import AUTO, STRATEGIES, StrategyConfig, parse_strategy
from aimass.training.workers.elastic import WorkerRange, read_workers

_CONDITION = re.compile(r"\s*([a-z_0-9]+)\s*(>=|<=)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
DEFAULT_EPOCHS = 10


class StopConfig(Config):
    """When training ends: at whichever of these comes first.

    Args:
        epochs: passes over the training rows. 10, unless `max_steps` or `budget` is given.
        max_steps: batches, over all workers.
        target: a metric of the validation rows and its goal, such as `"accuracy>=0.97"` or `"rmse<=2.5"`.
        tolerance: the training loss counts as converged when it changed by less than this in each of three epochs.
        patience: early stopping: epochs without a better primary metric on the validation rows; the best model is kept.
        budget: wall-clock time, such as 90, `"90s"`, `"5m"` or `"2h"`.
    """

    epochs: Annotated[int, Field(ge=1, le=10**9)] | None = None
    max_steps: Annotated[int, Field(ge=1, le=10**12)] | None = None
    target: str | None = None
    tolerance: Annotated[float, Field(gt=0)] | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    budget: Annotated[Seconds, Field(gt=0)] | None = None

    @field_validator("target")
    @classmethod
    def _is_a_condition(cls, value: str | None) -> str | None:
        if value is not None and not _CONDITION.fullmatch(value):
            raise ValueError("a target is a metric, >= or <=, and a number, such as 'accuracy>=0.97'")
        return value

    @property
    def target_condition(self) -> tuple[str, str, float] | None:
        """The target as (metric, `>=` or `<=`, value)."""
        if self.target is None:
            return None
        match = _CONDITION.fullmatch(self.target)
        assert match is not None, "the validator has seen it"
        return match[1], match[2], float(match[3])

    @property
    def num_epochs(self) -> int | None:
        """The passes to make, with the default where nothing bounds the run's length."""
        if self.epochs is None and self.max_steps is None and self.budget is None:
            return DEFAULT_EPOCHS
        return self.epochs


class CheckpointConfig(Config):
    """When the state is written to the run's folder.

    Args:
        every: seconds from one checkpoint to the next, or more where the disk needs longer. One is always written at the end.
        keep: how many of the last ones stay, besides the best one.
    """

    every: Annotated[Seconds, Field(gt=0)] = 60.0
    keep: Annotated[int, Field(ge=1)] = 2


class LeaseConfig(Config):
    """How work is handed to workers.

    Args:
        batches: batches per lease; by default so many that every worker gets several leases an epoch, and 32 at most.
        timeout: seconds without a committed batch after which a lease goes to another worker.
    """

    batches: Annotated[int, Field(ge=1)] | None = None
    timeout: Annotated[Seconds, Field(gt=0, le=10**7)] = 30.0


def _all_rows(value: Any) -> Any:
    """All rows as on the command line: `all`."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if text not in ("all", "none") and not re.fullmatch(r"-?\d{1,18}", text):
        raise ValueError("it is a number of rows, such as 32, or 'all' for all training rows")
    return None if text in ("all", "none") else int(text)


class TrainConfig(Config):
    """One training run.

    Args:
        model: a family (`"mlp"`, `{"name": "mlp", "hidden": [64]}`), or a `torch.nn.Module`.
        strategy: a strategy or an alias of one, or `auto`, by what the run measures; by default `single` without workers and
            `async_sgd` with some.
        workers: worker processes; 0 trains in this process. A range such as `(1, 4)` or `"1:4"` lets their number change.
        least_workers: the lower end of that range, where `workers` is given as its upper end.
        batch_size: rows per worker per step; None or `"all"` for all training rows, so that each epoch is one step.
        loss: what is minimised: `cross_entropy` or `squared_error` of classes; `squared_error`, `absolute_error` or `huber` of numbers;
            by default the first of its task.
        optimizer: a name, or `{"name": "adam", "lr": 0.001, ...}`.
        schedule: how the learning rate changes.
        clip: bounds of the gradient.
        stop: when training ends.
        checkpoint: when state is written.
        lease: how work is handed out.
        health: what the run watches over.
        seed: decides the initial parameters and the order of rows.
        device: where the model computes: `"cpu"`; `"auto"`, on GPUs where there are any; `"cuda"`, on GPUs; `"cuda:1"`, on that one.
            Workers go round the GPUs.
        precision: in what it computes: `"float32"`, `"bf16"`, or `"auto"`, whichever is the faster one by far. The parameters are
            float32 in any case.
        start_from: a model that was trained before: its folder, a run's id, or from Python the model itself; in a job of a service
            a version of the registry, `churn@3`. What fits is copied. Where nothing of `model` is set, the run has its family and sizes.
        grow: begin with the answers of a smaller `start_from` of the same family.
        freeze: parameters that keep their values, by name, with `*` and `?`.
        adapter: `lora`: keep everything that was copied, and learn small matrices beside the linear layers.
    """

    model: ModelConfig = Field(default_factory=lambda: parse_model("mlp"))
    strategy: Annotated[SerializeAsAny[StrategyConfig], BeforeValidator(parse_strategy)]
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    least_workers: Annotated[int, Field(ge=1, le=256)] | None = None
    batch_size: Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_all_rows)] = 32
    loss: Annotated[str | None, BeforeValidator(read_loss)] = None
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    clip: ClipConfig = ClipConfig()
    stop: StopConfig = StopConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    lease: LeaseConfig = LeaseConfig()
    health: Annotated[HealthConfig, BeforeValidator(parse_health)] = HealthConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "cpu"
    precision: Literal["float32", "bf16", "auto"] = "float32"
    start_from: str | None = None
    grow: bool = False
    freeze: Annotated[tuple[str, ...], BeforeValidator(read_patterns)] = ()
    adapter: AdapterConfig | None = None

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError("a device is 'cpu', 'auto' for a GPU where there is one, 'cuda', or one GPU such as 'cuda:0'")
        return value

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        """A range of workers as its two ends, and the strategy that suits them."""
        if not isinstance(values, Mapping):
            return values
        workers, least = read_workers(values.get("workers", 0))
        values = {**values, "workers": workers} if "workers" in values else dict(values)
        if least is not None:
            values["least_workers"] = least
        strategy = values.get("strategy")
        if strategy is None or (isinstance(strategy, Mapping) and "name" not in strategy):
            name = "async_sgd" if isinstance(workers, int) and workers > 0 else "single"
            values["strategy"] = {"name": name, **(strategy or {})}
        return values

    def rows_per_batch(self, num_rows: int) -> int:
        """`batch_size`, where there are so many training rows."""
        return num_rows if self.batch_size is None else self.batch_size

    @property
    def worker_range(self) -> WorkerRange:
        """How many workers the run may have. `workers` is the most: the seats that are there, and what a run reserves."""
        return WorkerRange(self.workers if self.least_workers is None else self.least_workers, self.workers)

    @property
    def transfers(self) -> bool:
        """Whether the model does not begin afresh, or not all of it learns."""
        return bool(self.start_from or self.freeze or self.adapter)

    @model_validator(mode="after")
    def _has_something_to_start_from(self) -> TrainConfig:
        if self.grow and self.start_from is None:
            raise UsageError("grow=True needs start_from, the smaller model that was trained")
        if self.grow and self.model.name == CUSTOM:
            raise UsageError("grow=True is for the families that come with aimass; copy into a module of yours before you pass it")
        if self.adapter is not None and self.start_from is None and self.model.name != CUSTOM:
            raise UsageError(f"adapter={self.adapter.name!r} adapts a model that was trained before; give start_from")
        return self

    @model_validator(mode="after")
    def _strategy_fits_workers(self) -> TrainConfig:
        if self.strategy.name != AUTO:
            _check_number(self.strategy, self.workers)
        if self.least_workers is not None and self.least_workers > self.workers:
            raise UsageError(f"least_workers={self.least_workers} is above workers={self.workers}; a range is written workers=(1, 4)")
        if self.worker_range.is_elastic and not self.strategy.is_elastic:
            raise UsageError(
                f"the strategy {self.strategy.name!r}, as it is set, needs the same workers from start to end, and "
                f"workers={self.worker_range} is a range; give one number, or use one of: {', '.join(_elastic_strategies())}"
            )
        if self.strategy.has_tasks and self.lease.batches is not None:
            raise UsageError(f"with {self.strategy.name!r} a lease is a task, whose size strategy.rho decides; leave lease.batches out")
        exchange = self.strategy.sync_batches
        if self.strategy.plane in ("rounds", "balanced") and self.lease.batches not in (None, exchange):
            raise UsageError(
                f"in rounds a lease is what a worker does between two exchanges, which is {exchange:,} batch{'es' * (exchange != 1)}; "
                f"leave lease.batches out{', or set strategy.sync_every' * hasattr(self.strategy, 'sync_every')}"
            )
        if self.optimizer.method.from_sums and self.strategy.sends_deltas:
            others = ", ".join(name for name, method in METHODS.items() if not method.from_sums)
            raise UsageError(
                f"the optimizer {self.optimizer.name!r} computes p from sums of the gradients that it met itself, and where workers step "
                f"on their own, as {self.strategy.name!r} has them here, it would undo what the others found; choose one of: {others}"
            )
        if self.optimizer.method.from_sums and getattr(self.strategy, "shrinkage", None):
            raise UsageError(f"the optimizer {self.optimizer.name!r} computes p anew, so that strategy.shrinkage is lost; set optimizer.l1")
        if self.strategy.plane == "averages" and self.lease.batches is not None:
            raise UsageError("a lease is what a worker does between two averages; leave lease.batches out, and set strategy.every")
        if self.schedule.name == "cosine" and self.stop.num_epochs is None and self.stop.max_steps is None:
            raise UsageError("the cosine schedule needs to know where training ends; give epochs or max_steps beside the budget")
        return self


def _check_number(config: StrategyConfig, workers: int) -> None:
    """Refuse more workers than a strategy takes, and fewer than it needs."""
    strategy = STRATEGIES.load(config.name)
    if strategy.most_workers is not None and workers > strategy.most_workers:
        others = ", ".join(name for name in STRATEGIES.names() if STRATEGIES.load(name).most_workers is None)
        raise UsageError(f"the strategy {config.name!r} trains in one process; use workers=0, or one of: {others}")
    config.check_workers(workers)
    if workers < strategy.needs_workers:
        raise UsageError(
            f"the strategy {config.name!r} needs {strategy.needs_workers} workers or more; give workers={strategy.needs_workers}"
        )


def _elastic_strategies() -> list[str]:
    """The strategies that let workers join and leave as they are set by default."""
    found = {name: STRATEGIES.load(name) for name in STRATEGIES.names()}
    return [name for name, one in found.items() if one.most_workers is None and one.config_class.parse({}).is_elastic]


SHORTHANDS = {name: f"stop.{name}" for name in ("epochs", "max_steps", "tolerance", "patience", "budget")} | {"lr": "optimizer.lr"}
"""Names that people type without thinking of the tree, and what they stand for."""
