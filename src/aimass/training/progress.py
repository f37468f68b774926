"""Showing how a run goes, from the events in its folder: as bars in a terminal, as plain lines anywhere else."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TextIO

from aimass.core.events import Envelope
from aimass.training import events as happened
from aimass.training.run import RUNNING, Run
from aimass.training.standing import Standing, duration, news

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

Style = Literal["bar", "lines", "none"]

_LOOK_S = 0.1
_LINE_S = 1.0
_LAST_LOOKS = 10


def follow(run: Run, *, style: Style | None = None, stream: TextIO | None = None) -> None:
    """Show what happens in a run until it has ended. What it ended with is for `run.wait()` to say or raise.

    Args:
        run: of this process, or one that another process drives (`Run.open`).
        style: `bar` redraws, `lines` prints about one line a second, `none` only waits; by default bars in a terminal and
            lines elsewhere.
        stream: where to; by default standard error.

    Raises:
        KeyboardInterrupt: Ctrl-C; the run goes on.

    >>> import aimass, sys, tempfile
    >>> follow(aimass.train("iris", max_steps=8, home=tempfile.mkdtemp()), stream=sys.stdout)  # doctest: +ELLIPSIS
    training on iris: 120 rows, 9,091 parameters, single
    epoch 2/2  step 8/8  ...
    succeeded: all 8 steps are done
    """
    stream = stream or sys.stderr
    with _display(run, style or ("bar" if _redraws(stream) else "lines"), stream) as display:
        for envelope in _arrivals(run):
            display.hear(envelope)


def _display(run: Run, style: Style, stream: TextIO) -> _Display:
    if style == "none":
        return _Display(run)
    return _Bars(run, stream) if style == "bar" else _Lines(run, stream)


# ------------------------------------------------------------------------------------------------------- where from


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


# -------------------------------------------------------------------------------------------------------- where to


class _Display:
    """Hears the events and shows nothing. The others say more.

    Refused gradients may come by the hundred, so they are counted and told once a second.
    """

    def __init__(self, run: Run) -> None:
        self.standing = Standing(budget_s=run.config.stop.budget)
        self._refused: Counter[int] = Counter()
        self._told = 0.0

    def hear(self, envelope: Envelope) -> None:
        """Take in one event. Those that this release does not know are passed over."""
        event = envelope.event()
        if event is None:
            return
        self.standing.hear(event, envelope.time)
        if isinstance(event, happened.GradientRefused):
            self._refused[event.worker] += event.count
        if isinstance(event, happened.RunStarted):
            self._told = time.monotonic()
        if isinstance(event, happened.RunEnded) or time.monotonic() - self._told >= _LINE_S:
            self._told = time.monotonic()
            self.tell_standing()
            for worker, count in sorted(self._refused.items()):
                self.say(f"worker {worker}: {count:,} gradient{'s' * (count > 1)} with NaN or infinity refused")
            self._refused.clear()
        if sentence := news(event):
            self.say(sentence)

    def say(self, sentence: str) -> None:
        """Show a sentence that stays."""

    def tell_standing(self) -> None:
        """Show where the run stands. Called about once a second, and at the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""


class _Lines(_Display):
    """Plain lines, for files and pipes."""

    def __init__(self, run: Run, stream: TextIO) -> None:
        super().__init__(run)
        self._stream, self._standing = stream, ""

    def say(self, sentence: str) -> None:
        self._stream.write(f"{sentence}\n")
        self._stream.flush()

    def tell_standing(self) -> None:
        standing = self.standing
        step = f"step {standing.step:,}" + (f"/{standing.total_steps:,}" if standing.total_steps else "")
        left = [f"{duration(standing.left_s)} left"] if standing.left_s else []
        line = "  ".join([f"epoch {standing.epoch}", step, *standing.figures(), *left])
        if line != self._standing:
            self._standing = line
            self.say(line)


class _Bars(_Display):
    """A bar and a line of figures below it, redrawn in place; sentences scroll by above them."""

    def __init__(self, run: Run, stream: TextIO) -> None:
        from rich.console import Console

        super().__init__(run)
        self._console = Console(file=stream)
        self._bar: Progress = _bar_with_figures(self._console, self.standing)
        self._task: TaskID = self._bar.add_task("starting", total=None, left="")

    def say(self, sentence: str) -> None:
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def hear(self, envelope: Envelope) -> None:
        if envelope.type == happened.RunEnded.kind:
            self._bar.stop()  # what follows stands below the bar
        super().hear(envelope)
        done, left_s = self.standing.done, self.standing.left_s
        self._bar.update(
            self._task,
            description=f"epoch {self.standing.epoch}",
            total=1.0 if done is not None else None,
            completed=done or 0.0,
            left="" if left_s is None else f"{duration(left_s)} left",
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _bar_with_figures(console: Console, standing: Standing) -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.text import Text

    class BarWithFigures(Progress):
        """The figures stand on a line of their own, because 80 columns do not hold both."""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            yield Text("  ".join(standing.figures()), no_wrap=True, overflow="ellipsis", style="dim")

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(), TextColumn("{task.fields[left]}"))
    return BarWithFigures(*columns, console=console, expand=True, refresh_per_second=10)


def _redraws(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
