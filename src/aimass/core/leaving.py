"""How a process of ours ends: without going through all that it has imported, which takes a second where torch is among it."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import NoReturn


def leave_lightly() -> None:
    """Let this process end, whenever it does, without looking for garbage once more. What is registered with `atexit` is still done."""
    atexit.unregister(gc.freeze)  # once is enough, however often a command is run in one process
    atexit.register(gc.freeze)


def leave_now(status: int) -> NoReturn:
    """End this process, which has nothing left to do: what was printed is written, and `atexit` is not asked.

    Args:
        status: the exit status.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
