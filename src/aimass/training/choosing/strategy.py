"""What `strategy="auto"` becomes, by the first line that holds:

1. no worker processes                                     `single`
2. one                                                     `async_sgd`, which then waits for nobody
3. an exchange takes `LONG_EXCHANGE` of a step or more     `model_averaging`, so rarely that it takes a tenth of the time
4. at least `SPARSE` of the matrices' gradients is 0       `async_sgd`: workers seldom meet at the same parameters (Hogwild)
5. a lease has to have several batches                     `async_sgd`: in rounds it has one
6. the slowest worker has `EVEN` of the fastest's speed    `parameter_server` in rounds, equal to one process on the batches put together
7. a batch has `ENOUGH_ROWS` to share out                  `load_balanced_sgd`: rounds whose shares follow each worker's speed
8. otherwise                                               `async_sgd`: rounds would wait for the slowest
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Self

from aimass.training.choosing.measuring import evenness
from aimass.training.choosing.optimizer import SPARSE
from aimass.training.events import StrategyChosen
from aimass.training.strategy import AUTO, StrategyConfig, parse_strategy

if TYPE_CHECKING:
    from aimass.training.checkpoints.checkpoint import Checkpoint
    from aimass.training.choosing.measuring import Measured
    from aimass.training.config import TrainConfig

LONG_EXCHANGE = 0.5
EVEN = 0.6
ENOUGH_ROWS = 16
_SHARE_OF_TIME = 0.1
_MOST_STEPS = 100  # between two exchanges: with more, the models drift apart


@dataclass(frozen=True, kw_only=True)
class StrategyChoice:
    """What became of the strategy that was asked for.

    Args:
        chosen: its settings.
        workers: the least and the most workers, for which it was chosen.
        event: what is told of it, where it was left open.
        was_open: whether it was.
    """

    chosen: StrategyConfig
    workers: tuple[int, int]
    event: StrategyChosen | None = None
    was_open: bool = False

    @classmethod
    def of(cls, config: TrainConfig, checkpoint: Checkpoint | None, measure: Callable[[], Measured]) -> Self:
        """Decide, or hold to what was decided for as many workers before the run was resumed.

        Args:
            config: the run's settings.
            checkpoint: what it goes on from.
            measure: takes some steps with its model.
        """
        workers = (config.worker_range.least, config.worker_range.most)
        if config.strategy.name != AUTO:
            return cls(chosen=config.strategy, workers=workers)
        before = (checkpoint.state.get("strategy") if checkpoint else None) or {}
        if before.get("was_open") and tuple(before["workers"]) == workers:
            return cls(chosen=parse_strategy(before["chosen"]), workers=workers, was_open=True)
        found = measure() if config.workers > 1 else None
        even = evenness(config.workers) if found else None
        chosen, reason = choose_strategy(config, found, even)
        event = StrategyChosen(
            strategy=chosen.name,
            settings=chosen.model_dump(mode="json", exclude={"name"}, exclude_defaults=True),
            reason=reason,
            workers=config.workers,
            evenness=even,
            step_s=found.step_s if found else None,
            parameters=found.parameters if found else None,
            bandwidth_bytes_s=found.bandwidth_bytes_s if found else None,
            exchange_share=found.exchange_share if found else None,
            sparsity=found.sparsity if found else None,
        )
        return cls(chosen=chosen, workers=workers, event=event, was_open=True)

    def settled(self, config: TrainConfig) -> TrainConfig:
        """The run's settings with the choice in them."""
        return config.model_copy(update={"strategy": self.chosen})

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"chosen": self.chosen.model_dump(mode="json"), "workers": list(self.workers), "was_open": self.was_open}


def choose_strategy(config: TrainConfig, found: Measured | None, even: float | None) -> tuple[StrategyConfig, str]:
    """The strategy that suits what was measured, and why in one sentence.

    Args:
        config: the run's settings. What does not go together with them is not chosen.
        found: what was measured; None with fewer than two workers.
        even: the speed of the slowest worker over that of the fastest.
    """
    if not config.workers:
        return parse_strategy("single"), "there are no worker processes"
    if found is None or even is None:
        return parse_strategy("async_sgd"), "one worker waits for nobody"
    may_average = config.lease.batches is None and not config.optimizer.method.from_sums
    if found.exchange_share >= LONG_EXCHANGE and may_average:
        every = min(_MOST_STEPS, ceil(found.exchange_share / _SHARE_OF_TIME))
        why = f"an exchange takes {found.exchange_share:.0%} of a step's time, and once in {every} steps at most a tenth"
        return parse_strategy({"name": "model_averaging", "every": every}), why
    if found.sparsity >= SPARSE:
        return parse_strategy("async_sgd"), f"{found.sparsity:.0%} of a gradient is 0, so workers seldom meet at the same parameters"
    if config.lease.batches not in (None, 1):
        return parse_strategy("async_sgd"), "lease.batches is set, and in rounds it is one"
    if config.batch_size is None:
        return parse_strategy("load_balanced_sgd"), "a batch is all rows, and its rounds share those out among the workers"
    slowest = f"the slowest of {config.workers} workers has {even:.0%} of the fastest's speed"
    if even >= EVEN:
        return parse_strategy("parameter_server"), f"{slowest}, so rounds wait little, and two runs give the same result"
    if config.batch_size >= ENOUGH_ROWS:
        return parse_strategy("load_balanced_sgd"), f"{slowest}, and gets as much less to do"
    return parse_strategy("async_sgd"), f"{slowest}, and nobody waits for it"
