"""Where a run stands, as far as its events have told, in figures for people."""

from __future__ import annotations

from dataclasses import dataclass, field

from aimass.core.events import Event
from aimass.training import events as happened


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(4.2), duration(65), duration(7384)
    ('0:04', '1:05', '2:03:04')
    """
    minutes, rest_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest_s:02}" if hours else f"{minutes}:{rest_s:02}"


def headline(metrics: dict[str, float]) -> str:
    """The metric that people look at first, and if there is none but the loss, that.

    >>> headline({"loss": 0.1, "accuracy": 0.97}), headline({})
    ('accuracy 0.9700', '')
    """
    names = [name for name in metrics if name != "loss"] or list(metrics)
    return f"{names[0]} {_figure(metrics[names[0]])}" if names else ""


def _figure(value: float) -> str:
    """A loss or a metric, to four places, or with an exponent where those would hold nothing or where it has run away.

    >>> _figure(0.97), _figure(0.0), _figure(1.084e-6), _figure(3.87e35)
    ('0.9700', '0.0000', '1.084e-06', '3.87e+35')
    """
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


@dataclass
class Standing:
    """Where the run stands, as far as its events have told.

    Args:
        budget_s: the time that the run may take.
    """

    budget_s: float | None = None
    epochs: int | None = None
    total_steps: int | None = None
    batches_per_epoch: int = 1
    workers: int = 0
    alive: int = 0
    step: int = 0
    loss: float | None = None
    rows_per_s: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)
    _first_step: int = 0
    _first: float = 0.0
    _last: float = 0.0

    def hear(self, event: Event, when: float) -> None:
        """Take in one event and the time that it bears."""
        self._last = when
        match event:
            case happened.RunStarted():
                self.epochs, self.total_steps, self.batches_per_epoch = event.epochs, event.total_steps, event.batches_per_epoch
                self.workers, self.alive = event.workers, event.least_workers or event.workers
                self.step = self._first_step = event.resumed_at_step or 0
                self._first = when
            case happened.Progress():
                self.step, self.rows_per_s = max(self.step, event.step), event.rows_per_s
                self.alive = event.workers if event.workers else self.alive  # at the end all have left
                self.loss = self.loss if event.loss is None else event.loss
            case happened.EpochEnded():
                self.step, self.validation = max(self.step, event.step), event.validation
                self.loss = self.loss if event.train_loss is None else event.train_loss
                self.rows_per_s = self.rows_per_s or event.rows_per_s

    @property
    def epoch(self) -> str:
        """`3/10`: the epoch under way."""
        number = self.step // self.batches_per_epoch + 1
        last = self.epochs or (-(-self.total_steps // self.batches_per_epoch) if self.total_steps else None)
        return f"{min(number, last)}/{last}" if last else str(number)

    @property
    def done(self) -> float | None:
        """The share of the run that is done, from 0 to 1; None where its length is not known."""
        shares = [self.step / self.total_steps] if self.total_steps else []
        if self.budget_s:
            shares.append((self._last - self._first) / self.budget_s)
        return min(1.0, max(shares)) if shares else None

    @property
    def left_s(self) -> float | None:
        """Seconds until the end, if it goes on as it has since it started or was resumed."""
        elapsed_s, steps = self._last - self._first, self.step - self._first_step
        left = [elapsed_s / steps * (self.total_steps - self.step)] if self.total_steps and steps else []
        if self.budget_s:
            left.append(self.budget_s - elapsed_s)
        return max(0.0, min(left)) if left else None

    def figures(self) -> list[str]:
        """Loss, validation metric, speed and workers, each where it is known."""
        figures = [f"loss {_figure(self.loss)}"] if self.loss is not None else []
        if self.validation:
            figures.append(f"validation {headline(self.validation)}")
        if self.rows_per_s:
            figures.append(f"{self.rows_per_s:,.0f} rows/s")
        if self.workers:
            figures.append(f"{self.alive} of {self.workers} workers")
        return figures
