"""Load-balanced SGD: synchronous rounds in which a worker gets as many rows as it is fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = ("balanced_sgd", "load_balanced", "load_balancing_sgd", "负载均衡SGD", "负载均衡")


class LoadBalancedSGDConfig(StrategyConfig):
    """Settings of `load_balanced_sgd`.

    Args:
        smoothing: a, how much the newest measurement of a worker's speed counts beside those before. With 1 it alone counts.
    """

    name: Literal["load_balanced_sgd"] = "load_balanced_sgd"
    smoothing: Annotated[float, Field(gt=0, le=1)] = 0.3

    @property
    def plane(self) -> str:
        """`balanced`, rounds whose parts are of different sizes."""
        return "balanced"


class LoadBalancedSGD(Strategy):
    """A round has m · batch_size rows, of which worker i computes nᵢ, in proportion to its rows a second.

        p_{t+1} = step(p_t, Σ nᵢ gᵢ / Σ nᵢ),    nᵢ ≈ m · batch_size · sᵢ / Σ sⱼ,    sᵢ ← sᵢ + a (nᵢ / tᵢ − sᵢ)

    where gᵢ is the mean gradient of worker i's nᵢ rows at p_t, and tᵢ how long it took. The mean over the round's rows is the same whatever
    the shares are, so p equals that of equal shares, and of one process on those rows; only who waits for whom is another.

    Source: Chen et al., LB-BSP: load-balanced bulk synchronous parallel distributed deep learning, 2020; Tyagi and Sharma, Taming resource
    heterogeneity in distributed ML training with dynamic batching, ACSOS 2020.
    """

    config_class = LoadBalancedSGDConfig

    def work(self, worker: Worker) -> None:
        from aimass.training.leases.balanced import BalancedTable

        leases = worker.leases
        assert isinstance(leases, BalancedTable), "the plane has it"
        worker.clips_batches = False  # the mean is clipped, as one process would
        for batch in worker.batches():
            clock = worker.pull()
            loss, gradient = worker.gradient(batch)
            leases.measure(worker.slot, len(batch["rows"]))
            worker.report(loss=loss, batches=leases.part.counts)
            worker.push(gradient, clock)


PLUGIN = LoadBalancedSGD
