"""Asynchronous SGD by owned blocks: each worker learns the parameters that it owns, and takes the others' from those who own them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from aimass.core.errors import UsageError
from aimass.training.strategy import Strategy, StrategyConfig

if TYPE_CHECKING:
    from aimass.training.workers.worker import Worker

ALIASES = ("block_asgd", "block_sgd", "owned_blocks", "async_blocks", "分块异步SGD", "异步分块SGD")


def _range(value: Any) -> Any:
    """A range as on the command line: `-1,1`."""
    return tuple(part.strip() for part in value.strip("()[] ").split(",")) if isinstance(value, str) else value


class BlockAsyncSGDConfig(StrategyConfig):
    """Settings of `block_async_sgd`.

    Args:
        mix: β, the part that another's block, when it comes, has in what a worker makes of it; 1 takes it as it is.
        clip_weights: the range (lo, hi) in which every parameter is kept.
        regularization: R of the objective's term λ R(w): `l2`, ½ ‖w‖², or `l1`, ‖w‖₁.
        regularization_strength: λ.
        shrinkage: γ, by which each step brings each weight closer to 0.
        atomic: a push whose worker is killed inside it is finished by another. False is faster, and may leave a torn chunk.
    """

    name: Literal["block_async_sgd"] = "block_async_sgd"
    mix: Annotated[float, Field(gt=0, le=1)] = 1.0
    clip_weights: Annotated[tuple[float, float] | None, BeforeValidator(_range)] = None
    regularization: Literal["l2", "l1"] = "l2"
    regularization_strength: Annotated[float, Field(ge=0)] = 0.0
    shrinkage: Annotated[float, Field(ge=0)] = 0.0
    atomic: bool = True

    @property
    def plane(self) -> str:
        """`blocks`, each of which has an owner."""
        return "blocks"

    @model_validator(mode="after")
    def _range_has_room(self) -> Self:
        if self.clip_weights is not None and not self.clip_weights[0] < self.clip_weights[1]:
            low, high = self.clip_weights
            raise UsageError(f"strategy.clip_weights=({low:g}, {high:g}) holds no number; give (lo, hi) with lo < hi, such as (-1, 1)")
        return self


class BlockAsyncSGD(Strategy):
    """Worker i owns block w_i. It takes what is new of the others', and moves its own by the gradient on its next batch.

        w_j ← (1 − β) w_j + β w_j'                         for each block j of another that has changed, w_j' as its owner has it
        w_i ← clip(step(w_i, ∂L/∂w_i + λ ∇R(w_i)))

    The blocks as their owners have them are the model.

    Source: Bertsekas and Tsitsiklis, Parallel and distributed computation, 1989, chapters 6 and 7; Liu et al., An asynchronous parallel
    stochastic coordinate descent algorithm, ICML 2014.
    """

    config_class = BlockAsyncSGDConfig

    def work(self, worker: Worker) -> None:
        from aimass.parameters.blocks import BlockServer

        server, learner = worker.server, worker.learner
        assert isinstance(server, BlockServer)
        learner.learn_only(server.own)
        worker.clips_batches = False  # others' parameters have no part in the norm
        for batch in worker.batches():
            server.received = 0
            clock = server.pull(learner.parameters)
            worker.moved(received=4 * server.received)
            loss, gradient = worker.gradient(batch)
            own = gradient[server.own]
            worker.clip(own)
            worker.moved(sent=4 * len(own) if server.layout.num_slots > 1 else 0)
            worker.report(loss=loss)
            server.push(gradient, clock)


PLUGIN = BlockAsyncSGD
