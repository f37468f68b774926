"""What a worker and the server send one another at an exchange: vectors as they are, or in 8 bits a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimass.parameters.int8 import Int8Blocks, Int8Copy

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.parameters.base import Pushed
    from aimass.training.workers.worker import Worker


class Whole:
    """Everything as it is.

    Args:
        worker: whose p follows the server's.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def pull(self) -> int:
        """Fetch the mean into the worker's p, and return the clock that it had."""
        return self._worker.pull()

    def push(self, change: Tensor, clock: int) -> Pushed:
        """Send a change that was found at the p of `clock`. Shape (num_parameters,)."""
        return self._worker.push(change, clock)


class EightBits(Whole):
    """In 8 bits a value. The mean comes as its difference to what the worker has of the one before.

    Args:
        worker: whose p follows the server's.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._int8 = Int8Blocks(worker.server.layout.num_parameters)
        self._mean = Int8Copy(self._int8)

    def pull(self) -> int:
        p = self._worker.learner.parameters
        clock = self._worker.server.pull(p)
        p.copy_(self._mean.follow(p))
        self._worker.moved(received=self._mean.num_bytes)
        return clock

    def push(self, change: Tensor, clock: int) -> Pushed:
        self._worker.moved(sent=self._int8.num_bytes)
        return self._worker.server.push(self._int8.send(change), clock)
