"""Whether a process that was noted down is still there. Process numbers are used again, so its start is noted too."""

from __future__ import annotations

_SAME_START_S = 1.0


def process_start(pid: int) -> float | None:
    """When a process started, in seconds since 1970; None when there is none, or it has ended."""
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
