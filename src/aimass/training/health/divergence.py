"""Divergence: the training loss runs away from where it has been."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

WINDOW_BATCHES = 20
WINDOW_ROWS = 200
"""What a window has at least."""

_WARM_UP_WINDOWS = 5
_IN_A_ROW = 2
_KEPT = 0.9


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """What was seen: the loss of the last window or epoch, and what it was compared with, in a number and in words."""

    loss: float
    reference: float | None
    meaning: str


class Divergence:
    """Judges the curve of the training loss, a window at a time.

    The loss L of a window is the mean over its rows; a window has 20 batches and 200 rows or more. With the moving average
    A ← 0.9 A + 0.1 L of the windows that were not suspicious, and the loss G of always giving the best constant answer, a window is
    suspicious when

        L > factor · min(A, G)   and   L > G   and   L ≥ A

    and two of them in a row are an alarm. Each part is there against a false one:

    - *Windows.* The loss of a batch of one row is often ten times the average, and so is that of one batch in a hundred of a model that
      has learnt its rows. The mean of 200 squared errors of normal residuals has a standard deviation of a tenth of itself.
    - *L > G.* A model that has learnt its rows has an average of nearly nothing, of which one misfit is a multiple. While it is better
      than a constant it has not diverged.
    - *factor · G.* Nor is it noise when the loss is several times what a constant costs, although the average may have climbed with it.
    - *L ≥ A.* A model that starts far off and comes closer has not diverged.
    - *Two in a row.* A stretch of outliers passes. What runs away stays away.
    - *A loss that is not finite* for most rows of a window is over any limit.
    - *A warm-up* of five windows: momentum and large rates overshoot in the first steps and come back.

    A slow climb takes the average along, so each epoch of 20 batches or more is compared with the best epoch by the same rule.

    Args:
        factor: how many times the reference.
        guess: G, where it is known and not 0; otherwise the loss of the first window stands for it.

    Attributes:
        is_suspicious: whether the last window was, in the warm-up too: what the model is then should not be kept.
    """

    def __init__(self, factor: float, guess: float | None = None) -> None:
        self.factor, self.guess = factor, guess or None
        self.average: float | None = None
        self.best_epoch: float | None = None
        self.is_suspicious = False
        self._windows = self._in_a_row = 0

    def see(self, loss: float) -> Alarm | None:
        """Take in the mean loss of one window.

        >>> divergence = Divergence(factor=3.0, guess=2.3)
        >>> [divergence.see(loss) for loss in (2.0, 1.4, 1.1, 0.9, 0.8, 0.7, 9.0)]
        [None, None, None, None, None, None, None]
        >>> divergence.see(30.0).loss
        30.0
        """
        self._windows += 1
        if self.guess is None and isfinite(loss):
            self.guess = loss
        self.is_suspicious = self.suspects(loss)
        if self.is_suspicious and (self._windows > _WARM_UP_WINDOWS or loss == inf):
            self._in_a_row += 1
            return self._alarm(loss, self.average, "its moving average") if self._in_a_row >= _IN_A_ROW else None
        self._in_a_row = 0
        if isfinite(loss):
            self.average = loss if self.average is None else _KEPT * self.average + (1 - _KEPT) * loss
        return None

    def suspects(self, loss: float) -> bool:
        """Whether a window with this mean loss would be suspicious, after those that were seen."""
        average = loss if self.average is None else self.average
        return loss == inf or (loss >= average and self._is_over(loss, average))

    def see_epoch(self, loss: float, num_batches: int) -> Alarm | None:
        """Take in the mean training loss of one epoch."""
        if num_batches < WINDOW_BATCHES:
            return None
        if self.best_epoch is not None and self._is_over(loss, self.best_epoch):
            return self._alarm(loss, self.best_epoch, "its best epoch")
        self.best_epoch = loss if self.best_epoch is None else min(loss, self.best_epoch)
        return None

    def _is_over(self, loss: float, average: float) -> bool:
        return self.guess is not None and loss > self.factor * min(average, self.guess) and loss > self.guess > 0

    def _alarm(self, loss: float, average: float | None, meaning: str) -> Alarm:
        if self.guess is not None and (average is None or self.guess < average):
            average, meaning = self.guess, "what the same answer for every row costs"
        return Alarm(loss=loss, reference=average, meaning=meaning)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"guess": self.guess, "average": self.average, "best_epoch": self.best_epoch, "windows": self._windows}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.guess, self.average = state.get("guess", self.guess), state.get("average")
        self.best_epoch, self._windows = state.get("best_epoch"), state.get("windows", 0)
        self.is_suspicious, self._in_a_row = False, 0
