"""Which runs go in this process: a script that ends waits for them, a fork knows nothing of them."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from aimass.cluster.alive import is_alive

if TYPE_CHECKING:
    import threading

    from aimass.training.run import Run

_active: set[Run] = set()
_threads: WeakSet[threading.Thread] = WeakSet()


def begin(run: Run, thread: threading.Thread) -> None:
    """Start the thread that drives a run, and wait for both where the program ends."""
    _active.add(run)
    _threads.add(thread)
    try:
        thread.start()
    except BaseException:
        _active.discard(run)
        raise


def end(run: Run) -> None:
    """Forget a run that has ended; its thread may have a moment to go."""
    _active.discard(run)


def is_driven(name: str, facts: Mapping[str, Any]) -> bool:
    """Whether some process is training a run: another one that is alive, or a thread of this one.

    Args:
        name: the run's id.
        facts: what its `run.json` says of the process: `pid`, `process_started`.
    """
    if facts.get("pid") == os.getpid():
        return any(run.id == name for run in _active)
    return is_alive(facts.get("pid"), facts.get("process_started"))


@atexit.register
def _wait_for_active() -> None:
    """A script that ends without `wait` still gets what it asked for, and hears of what failed."""
    for run in list(_active):
        try:
            run.wait()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the others are still waited for
            sys.stderr.write(f"{run.id}: {error}\n")
    for thread in list(_threads):
        thread.join()


def _forget_in_fork() -> None:
    """A fork of the driver has none of its threads, and must not wait for them."""
    _active.clear()
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_fork)
