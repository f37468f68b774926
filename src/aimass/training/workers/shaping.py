"""Workers made slow or distant on purpose, to see how a strategy bears it: for benchmarks and comparisons, never for a run that matters.

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
from aimass.training.workers.link import Link
from aimass.training.workers.worker import Worker

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.data.batch import Batch
    from aimass.parameters.base import Pushed

_current: ContextVar[Shape | None] = ContextVar("shape", default=None)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is made different about which worker.

    Args:
        slow: how many times as long a worker takes for each gradient, by its slot. Whoever replaces it is as slow.
        moves_s: after so many seconds each of these workers becomes as slow as the one named after it was; 0 for never.
        link: what each worker's exchanges go over; None for what the machine has.
    """

    slow: Mapping[int, float] = field(default_factory=dict)
    moves_s: float = 0.0
    link: Link | None = None

    def __post_init__(self) -> None:
        for slot, factor in self.slow.items():
            if slot < 0:
                raise UsageError(f"slow={{{slot}: {factor:g}}} names no worker; they are counted from 0")
            if not 1.0 <= factor < float("inf"):
                raise UsageError(f"slow={{{slot}: {factor:g}}} cannot be done; give a factor of at least 1, such as 3.0")
        if not 0.0 <= self.moves_s < float("inf"):
            raise UsageError(f"moves_s={self.moves_s:g} cannot be done; give seconds, or 0 for workers that stay as slow as they are")

    def slowness(self, slot: int, now_s: float) -> float:
        """How many times as long the worker in a slot takes at a moment of the monotonic clock, which all processes share.

        >>> shape = Shape(slow={0: 1.0, 2: 3.0}, moves_s=0.5)
        >>> [shape.slowness(2, now_s) for now_s in (0.0, 0.4, 0.6, 1.1)]
        [3.0, 3.0, 1.0, 3.0]
        """
        if not self.moves_s or slot not in self.slow:
            return self.slow.get(slot, 1.0)
        slots, moves = list(self.slow), int(now_s / self.moves_s)
        return self.slow[slots[(slots.index(slot) + moves) % len(slots)]]

    def worker(self, slot: int) -> type[Worker]:
        """The class of the worker in a slot."""
        may_be_slow = slot in self.slow and (self.moves_s or self.slow[slot] > 1.0)
        return type("ShapedWorker", (ShapedWorker,), {"shape": self}) if may_be_slow or self.link else Worker


class ShapedWorker(Worker):
    """A worker that takes several times as long for each gradient as the machine needs, or whose exchanges go over a slow link.

    It sleeps for the rest, so that its core is free meanwhile: it is like a slower machine elsewhere, not like a busy one.
    """

    shape = Shape()

    def pull(self) -> int:
        clock = super().pull()
        self._travel(received=self.vector_bytes)
        return clock

    def push(self, change: Tensor, clock: int) -> Pushed:
        self._travel(sent=self.vector_bytes)
        return super().push(change, clock)

    def moved(self, *, sent: int = 0, received: int = 0, messages: int = 1) -> None:
        super().moved(sent=sent, received=received, messages=messages)
        self._travel(sent=sent, received=received, messages=messages)

    def _travel(self, *, sent: int = 0, received: int = 0, messages: int = 1) -> None:
        if self.shape.link is not None:
            time.sleep(self.shape.link.time_s(sent=sent, received=received, messages=messages))

    def gradient(self, batch: Batch) -> tuple[float, Tensor]:
        start = time.monotonic()
        found = super().gradient(batch)
        self.computed(time.monotonic() - start)
        return found

    def computed(self, seconds: float) -> None:
        time.sleep((self.shape.slowness(self.slot, time.monotonic()) - 1.0) * seconds)


@contextmanager
def shaped(*, slow: Mapping[int, float] | None = None, moves_s: float = 0.0, link: Link | None = None) -> Iterator[Shape]:
    """Shape the worker processes of every run that is started or resumed inside, to its end.

        time a gradient = factor · time that it took,    time an exchange = messages · latency + bytes / bandwidth

    Args:
        slow: the factor, at least 1, of each worker that shall be slow, by its number from 0. It sleeps, and its core is free.
            With `workers=0` there is no such worker, and nothing is slow.
        moves_s: after so many seconds each of these workers becomes as slow as the one named after it was, and so on; 0 for never.
        link: what each worker sends and receives over a link of its own; what counts is what `Worker.moved` counts.

    Raises:
        UsageError: a factor below 1, a worker below 0, or a time that is none.

    >>> import aimass, tempfile
    >>> with shaped(slow={1: 3.0}):
    ...     run = aimass.train("iris", workers=2, max_steps=8, home=tempfile.mkdtemp())
    >>> run.wait().metrics()["steps"]
    8
    """
    shape = Shape(slow=dict(slow or {}), moves_s=moves_s, link=link)
    token = _current.set(shape)
    try:
        yield shape
    finally:
        _current.reset(token)


def current_shape() -> Shape | None:
    """The shape for a run that this thread starts now."""
    return _current.get()
