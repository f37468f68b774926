"""An engine does not outlive the process that started it.

Its standard input is a pipe whose other end that process holds and never writes to: the kernel closes it however the process
ends. PR_SET_PDEATHSIG would not do, since it tells of the end of the *thread* that started the engine.
"""

from __future__ import annotations

import os
import select
import stat
import threading

_LOOK_EVERY_MS = 1000


def end_with_parent() -> bool:
    """End this process, at once, when standard input closes or the parent is another one than now.

    Returns:
        whether there is such a pipe; not where a person has started the engine from a terminal.
    """
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return False
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent", daemon=True).start()
    return True


def _watch(parent: int) -> None:
    """A thread, since the loop may be busy with a batch."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    while os.getppid() == parent:
        if poll.poll(_LOOK_EVERY_MS) and not _read():
            break
    os._exit(0)


def _read() -> bytes:
    try:
        return os.read(0, 4096)
    except OSError:
        return b""
