"""How a worker waits for others: at first it only lets them run, then it naps for longer and longer."""

from __future__ import annotations

import ctypes
import os
import sys
import time

_SPIN_NS = 200_000
_SHORTEST_NAP_S = 0.00002
_LONGEST_NAP_S = 0.001
_PR_SET_TIMERSLACK = 29


class Patience:
    """One worker's waiting. What others do is often there within microseconds, and sometimes takes as long as a batch."""

    def __init__(self) -> None:
        self._since_ns = 0

    def over(self) -> None:
        """What was waited for is there."""
        self._since_ns = 0

    def pause(self) -> bool:
        """Wait a little.

        Returns:
            whether it took a nap, so that there is time to look whether those who are waited for are still there.
        """
        now = time.monotonic_ns()
        if not self._since_ns:
            self._since_ns = now
            _make_naps_short()
        waited_ns = now - self._since_ns
        if waited_ns < _SPIN_NS:
            os.sched_yield()
            return False
        time.sleep(min(max(_SHORTEST_NAP_S, waited_ns * 1e-9 / 8), _LONGEST_NAP_S))
        return True


_has_short_naps = False


def _make_naps_short() -> None:
    """Let the kernel wake this thread on time, rather than up to 50 µs later to save power."""
    global _has_short_naps
    if not _has_short_naps and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    _has_short_naps = True
