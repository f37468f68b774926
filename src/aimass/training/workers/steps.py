"""Steps that a worker takes by itself between two exchanges, and by how much they moved p."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.data.batch import Batch
    from aimass.training.workers.worker import Worker


class OwnSteps:
    """The mean loss of some batches, and by how much an optimizer of the worker's own moves p on them.

        Δ = p_k − p_0,    p_{j+1} = step(p_j, ∇L(p_j, batch j))

    Its states stay with the worker between exchanges, and begin anew with another worker in its place.

    Args:
        worker: whose parameters are moved.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker, self._optimizer = worker, worker.own_optimizer()
        self._start = worker.learner.parameters.clone()

    def __call__(self, part: Iterator[Batch]) -> tuple[float, Tensor]:
        """Take a step on each batch, from the parameters as they are.

        Returns:
            the mean loss by rows, and Δ, shape (num_parameters,), where it is to be pushed from.
        """
        worker, p = self._worker, self._worker.learner.parameters
        self._start.copy_(p)
        losses = weights = 0.0
        for batch in part:
            loss, gradient = worker.gradient(batch)
            self._optimizer.step(p, gradient, worker.rate)
            losses, weights = losses + loss * worker.weight, weights + worker.weight
        return losses / (weights or 1.0), worker.server.gradient.copy_(p).sub_(self._start)

    def reset(self) -> None:
        """Let the optimizer begin anew, as after a change that was not finite, which its states have met as well."""
        self._optimizer.reset()
