"""Single-process SGD: what every other strategy is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = ("sgd", "sequential", "单机")


class SingleConfig(StrategyConfig):
    """Settings of `single`: none."""

    name: Literal["single"] = "single"


class Single(Strategy):
    """p ← step(p, ∇L(p, batch)), one batch after another, in the caller's process."""

    config_class = SingleConfig
    most_workers = 0

    def work(self, worker: Worker) -> None:
        for batch in worker.batches():
            clock = worker.pull()
            loss, gradient = worker.gradient(batch)
            worker.report(loss=loss)
            worker.push(gradient, clock)


PLUGIN = Single
