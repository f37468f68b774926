"""Ctrl-C and SIGTERM while a run is under way: the first stops it in good order, the second at once.

Signal handlers run between any two instructions of the main thread, so they only set flags and write bytes.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from aimass.core.errors import Cancelled

if TYPE_CHECKING:
    from aimass.training.run import Run

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOPPING = b"stopping after the current batch, writing a checkpoint; once more ends it at once\n"
_SHOW_CURSOR = b"\x1b[?25h"


class StopInOrder:
    """While it is entered, a signal stops the run that it was told of.

    Before the run is about to start there is nothing to keep, and a signal raises `Cancelled`. While it starts, the signal waits
    until there is a run to stop.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._is_starting = False
        self._run: Run | None = None
        self._before: dict[int, Any] = {}

    def starting(self) -> None:
        """From now on a signal waits for the run."""
        self._is_starting = True

    def started(self, run: Run) -> None:
        """The run to stop. One that was asked to before is stopped now."""
        self._run = run
        if self.is_asked:
            run.cancel()

    def _stop(self, signum: int, _: FrameType | None) -> None:
        in_terminal = os.isatty(2)
        if self.is_asked:
            os.write(2, _SHOW_CURSOR if in_terminal else b"")
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif not self._is_starting:
            raise Cancelled("stopped before training began; nothing was written")
        self.is_asked = True
        os.write(2, b"\n" * in_terminal + _STOPPING)
        if self._run is not None:
            self._run.cancel()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
