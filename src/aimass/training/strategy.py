"""What a strategy is: the algorithm that turns batches into one trained vector, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aimass.core.config import Config
from aimass.core.errors import UsageError
from aimass.core.plugins import Kind

if TYPE_CHECKING:
    from aimass.models.family import FamilyConfig
    from aimass.training.workers.worker import Worker

STRATEGIES = Kind(name="strategy", package="aimass.training.strategies", group="aimass.strategies")


AUTO = "auto"
"""The name that leaves the choice to the run."""


class StrategyConfig(Config):
    """The base of a strategy's settings."""

    name: str

    @property
    def plane(self) -> str:
        """How parameters and batches are shared: `arrival`, where each push is applied when it comes; `rounds`, where all are applied at
        once; `balanced`, rounds whose rows are shared out by speed; `averages`, where models are; `replicas`, one for each worker;
        `groups`, where groups of workers push as one; `blocks`, each of which one worker owns; `layers` and `tensors`, where each
        worker has a part of the model. `training/planes.py` says which server and which leases each has."""
        return "arrival"

    @property
    def is_elastic(self) -> bool:
        """Whether workers may join and leave while it trains: where nobody's work needs a certain other."""
        return self.plane in ("arrival", "rounds", "balanced", "groups")

    @property
    def sync_batches(self) -> int | None:
        """The batches between two exchanges, where that is a number."""
        return 1

    def task_batches(self, num_rows: int, batch_size: int, workers: int) -> int | None:
        """The batches of one lease, where the algorithm says how much a worker takes at a time; None leaves that to the run.

        Args:
            num_rows: training rows.
            batch_size: rows a batch.
            workers: how many there may be, at least 1.
        """
        return None

    @property
    def has_tasks(self) -> bool:
        """Whether leases are the algorithm's tasks: it is told who did which, and no setting but its own says how large they are."""
        return False

    @property
    def sums_parts(self) -> bool:
        """Whether what the parts of a round send is added up, rather than averaged by rows."""
        return False

    @property
    def sends_deltas(self) -> bool:
        """Whether a worker moves a p of its own between two exchanges, and sends by how much."""
        return False

    def exchange_batches(self, workers: int) -> int:
        """The batches of one exchange: of one worker, or of the group that exchanges as one."""
        return self.sync_batches or 1

    def num_groups(self, workers: int) -> int:
        """The groups that so many workers form, each of which pushes as one; 0 where each worker pushes for itself."""
        return 0

    def check_workers(self, workers: int) -> None:
        """Refuse a number of workers that the settings cannot work with.

        Raises:
            UsageError: it is none, too few, or too many.
        """

    def model_for(self, model: FamilyConfig) -> FamilyConfig:
        """The model that is trained where this one is asked for.

        Raises:
            UsageError: this strategy cannot train it.
        """
        return model


class AutoConfig(StrategyConfig):
    """Leaves the strategy to the run, which measures some steps before it starts a worker."""

    name: Literal["auto"] = "auto"


class Strategy(ABC):
    """One strategy. Starting, leases, evaluation, checkpoints and recovery belong to the trainer.

    Args:
        config: its settings.
    """

    config_class: ClassVar[type[StrategyConfig]]
    needs_workers: ClassVar[int] = 0
    """The least number of worker processes that it makes sense with."""
    most_workers: ClassVar[int | None] = None
    """The largest, or None for any."""
    worker_modules: ClassVar[tuple[str, ...]] = ()
    """What its workers import late, so that the process that forks them can have it ready."""
    heavy_modules: ClassVar[tuple[str, ...]] = ()
    """The same, where it takes seconds to import: ready for this strategy's runs alone."""

    def __init__(self, config: StrategyConfig) -> None:
        self.config = config

    @abstractmethod
    def work(self, worker: Worker) -> None:
        """What one worker does, from its first batch to its last."""


def parse_strategy(value: Any) -> StrategyConfig:
    """The settings of a strategy, from its name, an alias, or a mapping with `name`.

    >>> parse_strategy("异步并行SGD").name
    'async_sgd'
    """
    if isinstance(value, StrategyConfig):
        return value
    fields = dict(value) if isinstance(value, Mapping) else {"name": value}
    if str(fields.get("name", "")).strip().lower() == AUTO:
        return AutoConfig.parse({**fields, "name": AUTO}, "strategy.")
    fields["name"] = STRATEGIES.canonical(str(fields.get("name", "")))
    strategy: type[Strategy] = STRATEGIES.load(fields["name"])
    for name in fields:
        if name not in strategy.config_class.model_fields and (having := _strategies_with(name)):
            raise UsageError(
                f"strategy.{name} is a setting of {' and '.join(having)}, and not of {fields['name']}; leave it out, or set "
                f"strategy to {' or '.join(map(repr, having))}"
            )
    return strategy.config_class.parse(fields, "strategy.")


def _strategies_with(setting: str) -> list[str]:
    """The strategies that have a setting of this name."""
    return [name for name in STRATEGIES.names() if setting in STRATEGIES.load(name).config_class.model_fields]


def build_strategy(config: StrategyConfig) -> Strategy:
    """The strategy that settings describe."""
    strategy: type[Strategy] = STRATEGIES.load(config.name)
    return strategy(config)
