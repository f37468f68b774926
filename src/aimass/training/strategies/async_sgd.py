"""Asynchronous parallel SGD: push a gradient, do not wait, go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.training.worker import Worker

ALIASES = ("ap_sgd", "asgd", "asynchronous_sgd", "hogwild", "异步并行SGD", "异步SGD")


class AsyncSGDConfig(StrategyConfig):
    """Settings of `async_sgd`.

    Args:
        atomic: a push whose worker is killed inside it is finished by another. False is faster, and may leave a torn chunk.
    """

    name: Literal["async_sgd"] = "async_sgd"
    atomic: bool = True


class AsyncSGD(Strategy):
    """Each worker pulls p, computes a gradient on its next batch, and pushes it, whatever the others do meanwhile.

        p_{t+1} = step(p_t, ∇L(p_{t−τ}, batch)),    τ = the pushes of others since the pull

    Source: Recht et al., Hogwild!, NIPS 2011; Dean et al., Large scale distributed deep networks, NIPS 2012.
    """

    config_class = AsyncSGDConfig

    def work(self, worker: Worker) -> None:
        for batch in worker.batches():
            clock = worker.server.pull(worker.learner.parameters)
            loss, gradient = worker.gradient(batch)
            worker.server.push(gradient, clock)
            worker.report(loss=loss)


PLUGIN = AsyncSGD
