"""Locks that die with their holder: `fcntl` byte ranges on one descriptor.

They belong to the process, so that one thread of a process may use them, and closing any other descriptor of the same file
would drop them all. The kernel frees them the moment a process ends, however it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, lockf
from functools import partial

_POLL_S = 0.0002


class ByteLocks:
    """One lock a byte of `descriptor`. The bytes need not exist."""

    acquire: Callable[[int], None]
    """Wait for a byte's lock and take it alone."""
    acquire_shared: Callable[[int], None]
    """Wait for a byte's lock and take it beside other readers."""
    release: Callable[[int], None]
    """Give a byte's lock back."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._depth: dict[int, int] = {}
        # A short push takes and gives four locks, and a Python frame for each would cost a tenth of it.
        self.acquire = partial(lockf, descriptor, LOCK_EX, 1)
        self.acquire_shared = partial(lockf, descriptor, LOCK_SH, 1)
        self.release = partial(lockf, descriptor, LOCK_UN, 1)

    def try_acquire(self, byte: int) -> bool:
        """Take the lock alone if nobody holds it."""
        try:
            lockf(self.descriptor, LOCK_EX | LOCK_NB, 1, byte)
        except BlockingIOError:
            return False
        return True

    @contextmanager
    def held(self, byte: int) -> Iterator[None]:
        """Hold the lock alone inside a `with` block. Blocks may nest: the outermost gives the lock back."""
        depth = self._depth.get(byte, 0)
        if not depth:
            self.acquire(byte)
        self._depth[byte] = depth + 1
        try:
            yield
        finally:
            self._depth[byte] = depth
            if not depth:
                self.release(byte)


class WatchfulLocks(ByteLocks):
    """The locks of a process that must never hang on another's: the one that could end that other.

    Args:
        descriptor: as for `ByteLocks`.
        watch: called again and again while a lock is waited for.
    """

    def __init__(self, descriptor: int, watch: Callable[[], None]) -> None:
        super().__init__(descriptor)
        self._watch = watch
        self.acquire = partial(self._poll, LOCK_EX)
        self.acquire_shared = partial(self._poll, LOCK_SH)

    def _poll(self, kind: int, byte: int) -> None:
        while True:
            try:
                lockf(self.descriptor, kind | LOCK_NB, 1, byte)
                return
            except BlockingIOError:
                self._watch()
                time.sleep(_POLL_S)
