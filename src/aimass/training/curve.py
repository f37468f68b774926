"""What a run tells of itself as it goes: its progress twice a second, and each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from aimass.training.events import EpochEnded, Progress

if TYPE_CHECKING:
    from aimass.core.events import Event
    from aimass.data.dataset import Dataset
    from aimass.models.learner import Learner
    from aimass.training.leases.table import LeaseTable
    from aimass.training.stopping import StopRules
    from aimass.training.workers.counters import Counters

_PROGRESS_S = 0.5


@dataclass(frozen=True)
class Moment:
    """What had been counted at one moment.

    Args:
        when: of `time.monotonic`.
        elapsed_s: since the run began, over every resumption.
        step: batches that are committed.
        rows: trained on.
        loss: the sum of losses times the weights of their rows.
        loss_weight: the weight of the rows of that sum.
        bytes_moved: sent and received by all workers.
    """

    when: float
    elapsed_s: float
    step: int
    rows: int
    loss: float
    loss_weight: float
    bytes_moved: int

    def mean_since(self, before: Moment) -> float | None:
        """The mean loss of the rows since then, by their weights; None where they have none."""
        weight = self.loss_weight - before.loss_weight
        return (self.loss - before.loss) / weight if weight > 0 else None


class Curve:
    """Measures one run.

    Args:
        leases, counters, rules: of the run; `rules.history` gets each epoch.
        batches_per_epoch: of its plan.
        tell: takes the events.
    """

    def __init__(
        self, leases: LeaseTable, counters: Counters, rules: StopRules, batches_per_epoch: int, tell: Callable[[Event], object]
    ) -> None:
        self._leases, self._counters, self._rules = leases, counters, rules
        self._batches_per_epoch, self._tell = batches_per_epoch, tell
        self.begin()

    def begin(self, before: Mapping[str, Any] | None = None) -> None:
        """Count from now on, where training begins, or begins again.

        Args:
            before: what `state` gave when the counters were what they are now.
        """
        self._told = now = self.now()
        self._epoch = now
        if before:
            weight = before["loss_weight"] if "loss_weight" in before else before["loss_rows"]  # once all rows counted alike
            self._epoch = replace(now, loss=before["loss"], loss_weight=weight)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: since when an epoch's loss is counted, so that it is that of all the epoch's rows in the end."""
        return {"loss": self._epoch.loss, "loss_weight": self._epoch.loss_weight}

    def now(self) -> Moment:
        """What has been counted so far."""
        counters = self._counters
        step, elapsed_s = self._leases.committed_batches, self._rules.elapsed_s
        moved = counters.bytes_sent + counters.bytes_received
        return Moment(time.monotonic(), elapsed_s, step, counters.rows, counters.loss, counters.loss_weight, moved)

    @property
    def is_due(self) -> bool:
        """Whether it is time to tell of the progress."""
        return time.monotonic() - self._told.when >= _PROGRESS_S

    def tell_progress(self, num_workers: int) -> None:
        """Tell how far the run is, and how fast since it was told last."""
        now, before = self.now(), self._told
        self._tell(
            Progress(
                step=now.step,
                epoch=round(now.step / self._batches_per_epoch, 4),
                rows=now.rows,
                rows_per_s=round((now.rows - before.rows) / max(now.when - before.when, 1e-9), 1),
                workers=num_workers,
                loss=now.mean_since(before),
            )
        )
        self._told = now

    def end_epoch(self, epoch: int, now: Moment, validation: dict[str, float], *, is_whole: bool = True) -> dict[str, Any]:
        """Note an epoch, and tell of it.

        Args:
            epoch: its number, from 1.
            now: when its last batch was done.
            validation: the metrics of the model of then.
            is_whole: whether it is over. Where the run ends inside it, its loss is counted on as the run goes on.

        Returns:
            what was told.
        """
        event = EpochEnded(
            epoch=epoch,
            step=now.step,
            train_loss=now.mean_since(self._epoch),
            validation=validation,
            rows_per_s=round(now.rows / max(now.elapsed_s, 1e-9), 1),
            elapsed_s=round(now.elapsed_s, 4),
            bytes_moved=now.bytes_moved,
        )
        entry = {**asdict(event), "is_best": self._rules.is_best(asdict(event))}
        self._rules.history.append(entry)
        if is_whole:
            self._epoch = now
        self._tell(EpochEnded(**entry))
        return entry


def validate(learner: Learner, data: Dataset) -> dict[str, float]:
    """The metrics on the validation rows that are finite; none where there are no rows."""
    if not len(data.validation):
        return {}
    found = learner.evaluate(data.validation.encoded)
    return {name: value for name, value in found.items() if isfinite(value)}
