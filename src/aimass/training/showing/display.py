"""How the events of a run are shown: as bars in a terminal, as plain lines anywhere else. Where they come from is no matter."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self, TextIO

from aimass.core.events import Envelope
from aimass.training import events as happened
from aimass.training.showing.news import news
from aimass.training.showing.standing import Standing, duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

Style = Literal["bar", "lines", "none"]

_LINE_S = 1.0


def open_display(style: Style | None, stream: TextIO, budget_s: float | None = None) -> Display:
    """A display, to be entered.

    Args:
        style: `bar` redraws, `lines` prints about one line a second, `none` shows nothing; by default bars in a terminal and lines
            elsewhere.
        budget_s: the time that the run may take.
    """
    style = style or ("bar" if redraws(stream) else "lines")
    if style == "none":
        return Display(budget_s)
    return Bars(stream, budget_s) if style == "bar" else Lines(stream, budget_s)


class Display:
    """Hears the events and shows nothing. The others say more.

    Refused gradients may come by the hundred, so they are counted and told once a second.
    """

    def __init__(self, budget_s: float | None = None) -> None:
        self.standing = Standing(budget_s=budget_s)
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


class Lines(Display):
    """Plain lines, for files and pipes."""

    def __init__(self, stream: TextIO, budget_s: float | None = None) -> None:
        super().__init__(budget_s)
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


class Bars(Display):
    """A bar and a line of figures below it, redrawn in place; sentences scroll by above them."""

    def __init__(self, stream: TextIO, budget_s: float | None = None) -> None:
        from rich.console import Console

        super().__init__(budget_s)
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


def redraws(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
