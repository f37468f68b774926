"""What tests ask about processes."""

import psutil


def is_running(pid):
    """Whether a process is there and has not ended. One that nobody has reaped yet has ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
