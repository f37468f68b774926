"""Showing how a run goes, from the events in its folder: as bars in a terminal, as plain lines anywhere else."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from aimass.core.events import Envelope
from aimass.training import events as happened
from aimass.training.record import RUNNING
from aimass.training.run import Run
from aimass.training.showing.display import Style, open_display

_LOOK_S = 0.1
_LAST_LOOKS = 10


def follow(run: Run, *, style: Style | None = None, stream: TextIO | None = None, hear: Callable[[Envelope], object] | None = None) -> None:
    """Show what happens in a run until it has ended. What it ended with is for `run.wait()` to say or raise.

    Args:
        run: of this process, or one that another process drives (`Run.open`).
        style: `bar` redraws, `lines` prints about one line a second, `none` only waits; by default bars in a terminal and
            lines elsewhere.
        stream: where to; by default standard error.
        hear: is told of each event too.

    Raises:
        KeyboardInterrupt: Ctrl-C; the run goes on.

    >>> import aimass, sys, tempfile
    >>> follow(aimass.train("iris", max_steps=8, home=tempfile.mkdtemp()), stream=sys.stdout)  # doctest: +ELLIPSIS
    training on iris: 120 rows, 9,091 parameters, single
    epoch 2/2  step 8/8  ...
    succeeded: all 8 steps are done
    """
    stream = stream or sys.stderr
    with open_display(style, stream, run.config.stop.budget) as display:
        for envelope in _arrivals(run):
            display.hear(envelope)
            if hear is not None:
                hear(envelope)


def _arrivals(run: Run) -> Iterator[Envelope]:
    """The events since the run was started or last resumed, as they are written, until it has ended."""
    since, log, looks = _started(run), _Tail(run.folder / "events.jsonl"), _LAST_LOOKS
    while looks:
        state = run.state  # asked before the log is read: what was written until now is then seen
        for envelope in log.new():
            if envelope.time >= since:
                yield envelope
                if envelope.type == happened.RunEnded.kind:
                    return
        if state == "interrupted":
            return
        looks -= state != RUNNING  # its last words follow at once, or never
        time.sleep(_LOOK_S)


def _started(run: Run) -> float:
    """When the run was started or last resumed: its description is written then, and not again until it has ended."""
    described = (run.folder / "run.json").stat().st_mtime
    if run.state == RUNNING:
        return described
    return max((envelope.time for envelope in run.events() if envelope.type == happened.RunStarted.kind), default=0.0)


class _Tail:
    """The lines of a log that grows, each once, however long the log is."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> list[Envelope]:
        """The events that were written since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        raws = map(json.loads, whole.splitlines())
        return [Envelope(**{name: raw[name] for name in ("run", "seq", "time", "type", "data", "v")}) for raw in raws]
