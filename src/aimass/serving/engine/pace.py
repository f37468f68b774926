"""How many rows a batch may have."""

from __future__ import annotations

_FIRST_BOUND = 256


class Pace:
    """Keeps batches so small that each takes no longer than it may, and as large as that allows.

    Args:
        max_batch: the most rows.
        limit_s: how long a batch may take.

    >>> pace = Pace(max_batch=1024, limit_s=0.025)
    >>> pace.note(rows=256, took_s=0.1, more_waited=True)
    >>> pace.rows
    64
    """

    def __init__(self, max_batch: int, limit_s: float) -> None:
        self._max_batch, self._limit_s = max_batch, limit_s
        self.rows = min(max_batch, _FIRST_BOUND)

    def note(self, rows: int, took_s: float, more_waited: bool) -> None:
        """Learn from a batch.

        Args:
            rows: how many it had.
            took_s: how long it took.
            more_waited: whether the bound kept rows out of it.
        """
        if took_s > self._limit_s:
            # To a quarter at most at a time: it may have been the machine that was slow, and not the model.
            self.rows = max(1, self.rows // 4, min(self.rows, int(rows * self._limit_s / took_s)))
        elif more_waited and took_s < self._limit_s / 2:
            self.rows = min(self._max_batch, self.rows * 2)
