"""How long a model takes: learned from what it took, by the rows of a batch.

    seconds(rows) = a + b · rows

a and b are the least-squares line through past batches, the newest weighing most.
"""

from __future__ import annotations

_FORGET = 0.98
_FIRST_GUESS_S = 0.001
_ROW_GUESS_S = 20e-6


class Line:
    """a + b · rows by least squares over batches, each observation weighing 2% less than the one after it.

    >>> line = Line()
    >>> for rows in (1, 10, 100) * 30:
    ...     line.learn(rows, 0.002 + 0.001 * rows)
    >>> round(line.seconds(50), 4)
    0.052
    """

    __slots__ = ("_n", "_x", "_xx", "_xy", "_y", "a", "b")

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0
        self.a, self.b = _FIRST_GUESS_S, _ROW_GUESS_S

    def seconds(self, rows: float) -> float:
        """What a batch of `rows` is expected to take."""
        return self.a + self.b * rows

    def learn(self, rows: int, seconds: float) -> None:
        """A batch of `rows` took `seconds`."""
        self._n = n = self._n * _FORGET + 1
        self._x = x = self._x * _FORGET + rows
        self._y = y = self._y * _FORGET + seconds
        self._xx = xx = self._xx * _FORGET + rows * rows
        self._xy = xy = self._xy * _FORGET + rows * seconds
        spread = n * xx - x * x
        if spread > 1e-3 * n * n:
            slope = (n * xy - x * y) / spread
            start = (y - slope * x) / n
            if slope >= 0 and start >= 0:
                self.a, self.b = start, slope
                return
        self.a, self.b = (0.0, y / x) if x > n * 4 else (y / n, 0.0)  # all of one size, or noise: through the mean


class Rows:
    """Guesses the rows of a body from its length, by the bytes a row took so far.

    >>> rows = Rows(bytes_per_row=100)
    >>> rows.guess(1000)
    10
    >>> for _ in range(200):
    ...     rows.learn(10, 500)
    >>> rows.guess(1000)
    20
    """

    __slots__ = ("_bytes_per_row",)

    def __init__(self, bytes_per_row: float) -> None:
        self._bytes_per_row = bytes_per_row

    def guess(self, size_bytes: int) -> int:
        """How many rows a body of this length may have; at least 1."""
        return int(size_bytes / self._bytes_per_row + 0.5) or 1

    def learn(self, rows: int, size_bytes: int) -> None:
        """A body of this length had `rows`."""
        self._bytes_per_row += 0.05 * (size_bytes / rows - self._bytes_per_row)


class Rate:
    """Events a second, over about the last ten seconds.

    >>> rate = Rate(now=0.0)
    >>> for step in range(1, 1001):
    ...     rate.count += 1
    ...     rate.tick(step * 0.1)
    >>> round(rate.per_s)
    10
    """

    __slots__ = ("_seen", "_then", "count", "per_s")

    def __init__(self, now: float) -> None:
        self.count, self.per_s, self._seen, self._then = 0, 0.0, 0, now

    @property
    def has_counted(self) -> bool:
        """Whether there were any since the last look."""
        return self.count != self._seen

    def tick(self, now: float) -> None:
        """Look at the count; the caller does so every now and then."""
        passed = now - self._then
        if passed > 0:
            keep = max(0.0, 1 - passed / 10)
            self.per_s = keep * self.per_s + (1 - keep) * (self.count - self._seen) / passed
            self._seen, self._then = self.count, now
