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
        self._worker, self.optimizer = worker, worker.own_optimizer()
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
            self.optimizer.step(p, gradient, worker.rate)
            losses, weights = losses + loss * worker.weight, weights + worker.weight
        return losses / (weights or 1.0), worker.server.gradient.copy_(p).sub_(self._start)

    def reset(self) -> None:
        """Let the optimizer begin anew, as after a change that was not finite, which its states have met as well."""
        self.optimizer.reset()


class MeanGradient:
    """The mean loss of some batches, and the mean of their gradients at the same p, weighted by their rows.

    Args:
        worker: who computes them.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._sum: Tensor | None = None  # made where a part has a second batch

    def __call__(self, part: Iterator[Batch]) -> tuple[float, Tensor]:
        """Look at each batch.

        Returns:
            the mean loss by rows, and the mean gradient, shape (num_parameters,).
        """
        worker = self._worker
        loss, gradient = worker.gradient(next(part))
        losses, weights = loss * worker.weight, worker.weight
        summed: Tensor | None = None
        for batch in part:
            if summed is None:
                self._sum = summed = self._sum if self._sum is not None else gradient.clone()
                summed.copy_(gradient).mul_(weights)
            loss, gradient = worker.gradient(batch)
            summed.add_(gradient, alpha=worker.weight)
            losses, weights = losses + loss * worker.weight, weights + worker.weight
        return (loss, gradient) if summed is None else (losses / (weights or 1.0), summed.div_(weights or 1.0))

    def reset(self) -> None:
        """Nothing is kept from one part to the next."""
