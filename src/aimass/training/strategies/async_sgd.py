"""Asynchronous parallel SGD: push a gradient; go on at once, or once the new parameters are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from aimass.core.errors import UsageError
from aimass.training.health.operations import WAITING
from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = ("ap_sgd", "asgd", "asynchronous_sgd", "hogwild", "异步并行SGD", "异步SGD")


class AsyncSGDConfig(StrategyConfig):
    """Settings of `async_sgd`.

    Args:
        wait: hand a gradient over, and wait until p has met it. By default a worker applies its gradient itself, and goes on.
        scale_steps: divide the learning rate of a push by 1 + τ, where τ is its staleness.
        compensation: correct a stale gradient for the way that p has gone meanwhile: `constant` or `adaptive`.
        compensation_strength: λ; by default 0.04 for `constant` and 2 for `adaptive`.
        atomic: a push whose worker is killed inside it is finished by another. False is faster, and may leave a torn chunk.
    """

    name: Literal["async_sgd"] = "async_sgd"
    wait: bool = False
    scale_steps: bool = False
    compensation: Literal["constant", "adaptive"] | None = None
    compensation_strength: Annotated[float, Field(ge=0)] | None = None
    atomic: bool = True

    @model_validator(mode="after")
    def _strength_has_its_compensation(self) -> Self:
        if self.compensation_strength is not None and not self.compensation:
            raise UsageError("strategy.compensation_strength needs compensation='constant' or 'adaptive'")
        return self


class AsyncSGD(Strategy):
    """Each worker pulls p, computes a gradient on its next batch, and pushes it, whatever the others do meanwhile.

        p_{t+1} = step(p_t, ∇L(p_{t−τ}, batch)),    τ = the pushes of others since the pull

    With a push goes the worker's state s = (t − τ, its own iteration). With `wait` it only hands its gradient over: then it waits
    until whoever serves has applied all that was handed over.

    With `scale_steps` the step's rate is divided by 1 + τ, with `compensation` the gradient is corrected for the way from
    p_{t−τ} to p_t.

    Source: Recht et al., Hogwild!, NIPS 2011; Dean et al., Large scale distributed deep networks, NIPS 2012.
    """

    config_class = AsyncSGDConfig

    def work(self, worker: Worker) -> None:
        assert isinstance(self.config, AsyncSGDConfig)
        waits = self.config.wait
        for batch in worker.batches():
            clock = worker.pull()
            loss, gradient = worker.gradient(batch)
            worker.report(loss=loss)
            if waits:
                worker.does(WAITING)
            worker.push(gradient, clock)


PLUGIN = AsyncSGD
