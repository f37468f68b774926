"""Incremental SGD: the data is cut into tasks, and whoever has done one adds what it changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from aimass.training.strategy import Strategy, StrategyConfig
from aimass.training.workers.steps import OwnSteps

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = ("isgd", "incremental", "incremental_gradient", "增量式SGD", "增量SGD", "增量式随机梯度下降")


class IncrementalSGDConfig(StrategyConfig):
    """Settings of `incremental_sgd`.

    Args:
        rho: ρ, the tolerance: a worker takes at most 1/(m·ρ) of the rows at a time, where m is the number of workers, and at least a
            batch. The larger it is, the less is done again when a worker dies, and the more often changes are exchanged.
        combine: what becomes of the changes: `sum` adds each as it is, `mean` divides them by the workers.
        ordered: add them up task by task in a fixed order, m at a time, so that the result does not depend on who did what or died.
    """

    name: Literal["incremental_sgd"] = "incremental_sgd"
    rho: Annotated[float, Field(ge=1, le=10**6)] = 4.0
    combine: Literal["sum", "mean"] = "sum"
    ordered: bool = False

    @property
    def plane(self) -> str:
        """`rounds` of one task a worker where the order is fixed, else `arrival`."""
        return "rounds" if self.ordered else "arrival"

    @property
    def sync_batches(self) -> int | None:
        """As many as a task has, which depends on the data."""
        return None

    @property
    def sends_deltas(self) -> bool:
        """A task's change is what is sent."""
        return True

    @property
    def sums_parts(self) -> bool:
        """Whether `combine` is `sum`."""
        return self.combine == "sum"

    @property
    def has_tasks(self) -> bool:
        """Its leases are its tasks."""
        return True

    def task_batches(self, num_rows: int, batch_size: int, workers: int) -> int:
        """The whole batches in 1/(m·ρ) of the rows, at least one.

        >>> IncrementalSGDConfig(rho=4).task_batches(num_rows=1000, batch_size=10, workers=2)
        12
        """
        return max(1, int(num_rows / (workers * self.rho) // batch_size))


class IncrementalSGD(Strategy):
    """Workers take tasks, train on each from the shared parameters by steps of their own, and add what that changed.

        W ← W + Δᵢ  (sum),    W ← W + Δᵢ / m  (mean),    Δᵢ = what task i's steps, each on a batch, make of W, less W

    A task's change and its end are one commit: the task of a worker that dies counts for nothing, and is done again from its beginning,
    by another or by the worker that comes back. The optimizer of the steps begins anew with each task, whose change so depends on W and
    the task alone. With `ordered`, m tasks begin at the same W, and their changes are added up in the order of the tasks.

    Source: Bertsekas, Incremental gradient, subgradient, and proximal methods for convex optimization: a survey, 2010; Dean et al.,
    Large scale distributed deep networks, NIPS 2012.
    """

    config_class = IncrementalSGDConfig

    def work(self, worker: Worker) -> None:
        config = self.config
        assert isinstance(config, IncrementalSGDConfig)
        find = OwnSteps(worker)
        share = 1.0 if config.ordered or config.combine == "sum" else 1 / worker.server.layout.num_slots
        for task in worker.parts():
            clock = worker.pull()
            find.reset()
            loss, change = find(task)
            worker.report(loss=loss)
            worker.push(change if share == 1.0 else change.mul_(share), clock)


PLUGIN = IncrementalSGD
