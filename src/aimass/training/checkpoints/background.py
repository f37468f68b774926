"""One thread for what must not hold up training."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

_NICENESS = 10
_T = TypeVar("_T")


class Background:
    """A thread that does one thing after another, when the processor has nothing better to do.

    It is started at once: an interpreter that is about to leave starts no threads, and still finishes its runs.

    >>> thread = Background("example")
    >>> thread.do(lambda: 6 * 7).result()
    42
    >>> thread.close()

    Args:
        name: the thread's.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], _T]) -> Future[_T]:
        """Have a thing done after those that were given before."""
        future: Future[_T] = Future()
        self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """Wait until everything is done, and end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        if sys.platform == "linux":
            with suppress(OSError):  # some sandboxes forbid it
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)  # there a thread has a priority of its own
        while (given := self._jobs.get()) is not None:
            job, future = given
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
                future.set_exception(error)
            del given, job, future  # or the last one's memory would be kept while the next is waited for
