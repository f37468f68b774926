"""A clock for a process that judges others: it stands still while the process itself does."""

from __future__ import annotations

import time
from collections.abc import Callable

_LONGEST_LOOK_S = 1.0


class OwnTime:
    """Seconds in which this process could have acted. It must be read often, about every tenth of a second.

    A process that was stopped, suspended or starved for half a minute has seen nothing of what others did meanwhile, and must
    not hold it against them. What passed between two readings counts only if it was short, or was spent computing.

    Args:
        clock: seconds that pass whatever happens.
        used: seconds of processor time that this process has had.

    >>> readings = iter([0.0, 0.1, 30.1, 30.2])
    >>> own = OwnTime(lambda: next(readings), lambda: 0.0)
    >>> [round(own.now(), 1) for _ in range(3)], own.stopped_s
    ([0.1, 0.1, 0.2], 30.0)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, used: Callable[[], float] = time.process_time) -> None:
        self._clock, self._processor = clock, used
        self.read_at, self._used = clock(), used()
        """What the clock said when this was last read."""
        self.stopped_s = 0.0
        """How long this process has stood still."""

    def now(self) -> float:
        """The time that it is for this process."""
        now, used = self._clock(), self._processor()
        passed_s, computed_s = now - self.read_at, used - self._used
        if passed_s > _LONGEST_LOOK_S:
            self.stopped_s += max(0.0, passed_s - computed_s)
        self.read_at, self._used = now, used
        return now - self.stopped_s
