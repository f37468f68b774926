"""What a worker's process holds in memory."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_FORGET_THE_MOST = "5"
_MMAP_THRESHOLD, _LARGE_BYTES = -3, 1 << 20


def give_back_at_once() -> None:
    """Have the C library give large tensors back to the system as they are freed.

    By itself glibc maps a first one, and from then on takes such sizes from its heap, up to 32 MB each. There the tensors that are gathered
    and let go of in every round leave gaps that others do not fit into, so that the process grows to several times of what it holds.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)


def begin_measuring() -> int:
    """The bytes that this process holds now. `most_memory` counts from here on, where the system lets it."""
    with suppress(OSError):  # or the most is that of the process's whole life
        _CLEAR.write_text(_FORGET_THE_MOST, encoding="ascii")
    return most_memory()


def most_memory() -> int:
    """The most bytes that this process has held.

    >>> most_memory() > 1 << 20
    True
    """
    try:
        line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
