"""What ends a run before its last batch."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from aimass.core.errors import UsageError, nearest
from aimass.models.losses import PRIMARY
from aimass.training.config import StopConfig

_CONVERGED_EPOCHS = 3


def check_target(config: StopConfig, task: str) -> None:
    """Refuse a target that no epoch of a run of this task will measure.

    Raises:
        UsageError: it names another metric; the message has those that are measured.

    >>> check_target(StopConfig(target="acuracy>=0.9"), "binary")
    Traceback (most recent call last):
    aimass.core.errors.UsageError: stop.target names the metric 'acuracy', and this run measures: accuracy, loss, train_loss; ...
    """
    condition, measured = config.target_condition, ("loss", "train_loss", PRIMARY[task][0])
    if condition is not None and condition[0] not in measured:
        raise _not_measured(condition[0], measured)


def _not_measured(metric: str, measured: Iterable[str]) -> UsageError:
    text = f"stop.target names the metric {metric!r}, and this run measures: {', '.join(sorted(measured))}"
    return UsageError(f"{text}{nearest(metric, measured)}")


@dataclass
class StopRules:
    """Judges after every epoch, and by the clock.

    Args:
        config: the rules.
        primary: the metric that early stopping watches, and whether `"max"` or `"min"` is better.
        elapsed_before_s: the time that the run took before it was resumed.
        history: the epochs so far, as `EpochEnded` has them.
    """

    config: StopConfig
    primary: tuple[str, str]
    elapsed_before_s: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    _undone: list[dict[str, Any]] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far, over every resumption."""
        return self.elapsed_before_s + time.monotonic() - self._started

    @property
    def epochs_judged(self) -> int:
        """The number of the last epoch. Workers may have ended the next one when a state is kept, while this one was evaluated."""
        return int(self.history[-1]["epoch"]) if self.history else 0

    def is_best(self, epoch: dict[str, Any]) -> bool:
        """Whether an epoch is better than all before it: by the primary metric, and without validation rows by the training loss."""
        new = self._score(epoch)
        return new is not None and all(new > old for old in map(self._score, [*self.history, *self._undone]) if old is not None)

    def go_back(self, history: list[dict[str, Any]]) -> None:
        """The run went back to where these were its epochs. The best of the others is kept, so it still counts in what is best."""
        self._undone += [epoch for epoch in self.history if epoch not in history]
        self.history = list(history)

    @property
    def judges_epochs(self) -> bool:
        """Whether what an epoch shows may end the run."""
        config = self.config
        return any(rule is not None for rule in (config.target, config.patience, config.tolerance))

    def natural_end(self, steps: int) -> tuple[str, str]:
        """The reason that ends a run which has done all that it was to do, and a sentence about it."""
        if steps == self.config.max_steps:
            return "max_steps", f"all {steps:,} steps are done"
        return "epochs", "its one epoch is done" if self.config.num_epochs == 1 else f"all {self.config.num_epochs} epochs are done"

    def judge(self) -> tuple[str, str] | None:
        """After an epoch was added to `history`: the reason to stop and a sentence about it, or None."""
        return self._target() or self._patience() or self._tolerance()

    def out_of_time(self) -> tuple[str, str] | None:
        """Whether the budget is used up."""
        if self.config.budget is not None and self.elapsed_s >= self.config.budget:
            return "budget", f"the budget of {self.config.budget:g} s is used up"
        return None

    def _score(self, epoch: dict[str, Any]) -> float | None:
        name, direction = self.primary
        value = epoch["validation"].get(name)
        if value is not None:
            return float(value) if direction == "max" else -float(value)
        return None if epoch["train_loss"] is None else -float(epoch["train_loss"])

    def _target(self) -> tuple[str, str] | None:
        condition = self.config.target_condition
        if condition is None:
            return None
        metric, sign, goal = condition
        found = {"train_loss": self.history[-1]["train_loss"], **self.history[-1]["validation"]}
        if metric not in found:
            raise _not_measured(metric, found)
        value = found[metric]
        if value is not None and (value >= goal if sign == ">=" else value <= goal):
            return "target", f"{metric} is {value:.4g}, and {self.config.target} was wanted"
        return None

    def _patience(self) -> tuple[str, str] | None:
        if self.config.patience is None:
            return None
        since = 0
        for epoch in reversed(self.history):
            if epoch["is_best"]:
                break
            since += 1
        if since >= self.config.patience:
            return "patience", f"{self.primary[0]} has not been better for {since} epochs"
        return None

    def _tolerance(self) -> tuple[str, str] | None:
        losses = [epoch["train_loss"] for epoch in self.history[-_CONVERGED_EPOCHS - 1 :]]
        if self.config.tolerance is None or len(losses) <= _CONVERGED_EPOCHS or None in losses:
            return None
        changes = [abs(new - old) for old, new in pairwise(losses)]
        if max(changes) < self.config.tolerance:
            return "tolerance", f"the training loss changed by less than {self.config.tolerance:g} in each of {_CONVERGED_EPOCHS} epochs"
        return None
