"""Everything that a run decides by what it finds, in order: the strategy, then the optimizer that suits it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from aimass.training.choosing.measuring import Measured, measure
from aimass.training.choosing.optimizer import OptimizerChoice
from aimass.training.choosing.strategy import StrategyChoice
from aimass.training.workers.threads import threads_for

if TYPE_CHECKING:
    from aimass.core.events import Event
    from aimass.data.dataset import Dataset
    from aimass.models.learner import Learner
    from aimass.training.checkpoints.checkpoint import Checkpoint
    from aimass.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What was decided, and what is told of it."""

    strategy: StrategyChoice
    optimizer: OptimizerChoice

    @classmethod
    def of(cls, config: TrainConfig, learner: Learner, data: Dataset, checkpoint: Checkpoint | None) -> Self:
        """Decide what the settings leave open, or hold to what was decided before the run was resumed.

        Args:
            config: the run's settings.
            learner: the driver's, whose model is measured where that is needed, and left as it is.
            data: what it trains on.
            checkpoint: what the run goes on from.

        Raises:
            UsageError: the optimizer cannot take over from the one that the run had.
        """

        @cache
        def found() -> Measured:
            num_rows = config.rows_per_batch(len(data.train))
            work = 0 if config.workers else num_rows * learner.manifest.num_parameters
            parameters = checkpoint.snapshot.parameters if checkpoint else None
            with threads_for(work):
                return measure(learner, data, num_rows, config.seed, parameters)

        strategy = StrategyChoice.of(config, checkpoint, found)
        optimizer = OptimizerChoice.of(strategy.settled(config), learner.manifest, checkpoint, found)
        return cls(strategy=strategy, optimizer=optimizer)

    def settled(self, config: TrainConfig) -> TrainConfig:
        """The run's settings with nothing open in them."""
        return self.optimizer.settled(self.strategy.settled(config))

    @property
    def events(self) -> list[Event]:
        """What is told of them."""
        return [event for event in (self.strategy.event, self.optimizer.event) if event is not None]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of them."""
        return {"strategy": self.strategy.state(), "optimizer": self.optimizer.state()}
