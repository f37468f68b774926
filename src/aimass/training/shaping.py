"""Workers made uneven on purpose, to see how a strategy bears it: for benchmarks and comparisons, never for a run that matters.

A shape reaches the workers with their orders. A run without one pays nothing: its workers are of another class.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aimass.core.errors import UsageError
from aimass.training.worker import Worker

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.data.batch import Batch

_current: ContextVar[Shape | None] = ContextVar("shape", default=None)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is made different about which worker.

    Args:
        slow: how many times as long a worker takes for each gradient, by its slot. Whoever replaces it is as slow.
    """

    slow: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for slot, factor in self.slow.items():
            if slot < 0:
                raise UsageError(f"slow={{{slot}: {factor:g}}} names no worker; they are counted from 0")
            if not 1.0 <= factor < float("inf"):
                raise UsageError(f"slow={{{slot}: {factor:g}}} cannot be done; give a factor of at least 1, such as 3.0")

    def worker(self, slot: int) -> type[Worker]:
        """The class of the worker in a slot."""
        factor = self.slow.get(slot, 1.0)
        return type("SlowWorker", (SlowWorker,), {"factor": factor}) if factor > 1.0 else Worker


class SlowWorker(Worker):
    """A worker that takes `factor` times as long for each gradient as the machine needs.

    It sleeps for the rest, so that its core is free meanwhile: it is like a slower machine elsewhere, not like a busy one.
    """

    factor = 1.0

    def gradient(self, batch: Batch) -> tuple[float, Tensor]:
        start = time.perf_counter()
        found = super().gradient(batch)
        time.sleep((self.factor - 1.0) * (time.perf_counter() - start))
        return found


@contextmanager
def shaped(*, slow: Mapping[int, float] | None = None) -> Iterator[Shape]:
    """Shape the worker processes of every run that is started or resumed inside, to its end.

        time a gradient = factor · time that it took

    Args:
        slow: the factor, at least 1, of each worker that shall be slow, by its number from 0. It sleeps, and its core is free.
            With `workers=0` there is no such worker, and nothing is slow.

    Raises:
        UsageError: a factor below 1, or a worker below 0.

    >>> import aimass, tempfile
    >>> with shaped(slow={1: 3.0}):
    ...     run = aimass.train("iris", workers=2, max_steps=8, home=tempfile.mkdtemp())
    >>> run.wait().metrics()["steps"]
    8
    """
    shape = Shape(slow=dict(slow or {}))
    token = _current.set(shape)
    try:
        yield shape
    finally:
        _current.reset(token)


def current_shape() -> Shape | None:
    """The shape for a run that this thread starts now."""
    return _current.get()
