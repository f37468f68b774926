"""Whether a process that was noted down is still there. Process numbers are used again, so its start is noted too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_SAME_START_S = 0.05
_ENDED = (b"Z", b"X")


def process_start(pid: int) -> float | None:
    """When a process started, in seconds since its machine did; None when there is none, or it has ended.

    A clock that is set anew changes what time it was then, and would make every process another one.
    """
    if sys.platform != "linux":
        return _start_elsewhere(pid)
    try:
        told = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # what follows the name, which may be anything
    except OSError:
        return None
    return None if told[0] in _ENDED else int(told[19]) / os.sysconf("SC_CLK_TCK")


def _start_elsewhere(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def is_alive(pid: int | None, started: float | None) -> bool:
    """Whether the process is there, and not another one with its number.

    >>> import os
    >>> is_alive(os.getpid(), process_start(os.getpid())), is_alive(os.getpid(), 0.0)
    (True, False)
    """
    if pid is None:
        return False
    now = process_start(pid)
    return now is not None and (started is None or abs(now - started) < _SAME_START_S)


def is_stopped(pid: int) -> bool:
    """Whether the process was stopped (SIGSTOP, or by a debugger) and not let go on.

    >>> import os
    >>> is_stopped(os.getpid())
    False
    """
    try:
        told = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return told[0] in (b"T", b"t")
