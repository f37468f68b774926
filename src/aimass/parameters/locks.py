"""Locks that die with their holder: `fcntl` byte ranges on one descriptor.

They belong to the process, so that one thread of a process may use them, and closing any other descriptor of the same file
would drop them all. The kernel frees them the moment a process ends, however it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, lockf


class ByteLocks:
    """One lock a byte of `descriptor`. The bytes need not exist."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._depth: dict[int, int] = {}

    def acquire(self, byte: int) -> None:
        """Wait for the lock and take it alone."""
        lockf(self.descriptor, LOCK_EX, 1, byte)

    def acquire_shared(self, byte: int) -> None:
        """Wait for the lock and take it beside other readers."""
        lockf(self.descriptor, LOCK_SH, 1, byte)

    def try_acquire(self, byte: int) -> bool:
        """Take the lock alone if nobody holds it."""
        try:
            lockf(self.descriptor, LOCK_EX | LOCK_NB, 1, byte)
        except BlockingIOError:
            return False
        return True

    def release(self, byte: int) -> None:
        """Give the lock back."""
        lockf(self.descriptor, LOCK_UN, 1, byte)

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
