"""What a comparison found: each run as a few numbers, a target that all reached, and how soon each did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from aimass.training.events import OptimizerChosen, StrategyChosen
from aimass.training.showing.news import news

if TYPE_CHECKING:
    from aimass.training.run import Run

SUCCEEDED = "succeeded"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A run at the end of an epoch.

    Args:
        epoch: its number, from 1.
        elapsed_s: since the run began.
        bytes_moved: sent and received until then.
        loss: of the validation rows, or where there are none of the training rows as they were trained on.
    """

    epoch: int
    elapsed_s: float
    bytes_moved: int
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of one strategy.

    Args:
        run: its id; None where none was begun.
        state: as the run's, or `refused`.
        message: what ended it.
        points: its epochs.
        metrics: as `Run.metrics` gives them; empty where it failed before it had any.
        notes: what else is to be said, such as a kill that the run did not last for.
    """

    run: str | None = None
    state: str
    message: str | None = None
    points: tuple[Point, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run, notes: Iterable[str] = ()) -> Trial:
        """What became of a run that has ended."""
        found = run.summary()
        history: list[dict[str, Any]] = run.history()
        points = tuple(
            Point(
                epoch=e["epoch"], elapsed_s=e["elapsed_s"], bytes_moved=e["bytes_moved"], loss=e["validation"].get("loss", e["train_loss"])
            )
            for e in history
        )
        metrics = found["metrics"] or {}
        told = [event for envelope in run.events() if (event := envelope.event()) is not None]
        chosen = [news(event) or "" for event in told if isinstance(event, StrategyChosen | OptimizerChosen)]
        return cls(run=run.id, state=found["state"], message=found["message"], points=points, metrics=metrics, notes=(*chosen, *notes))

    @property
    def best_loss(self) -> float | None:
        """The lowest loss of any epoch."""
        return min((point.loss for point in self.points if point.loss is not None), default=None)

    def reached(self, target: float | None) -> Point | None:
        """The first epoch whose loss was at most the target."""
        if target is None:
            return None
        return next((point for point in self.points if point.loss is not None and point.loss <= target), None)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One strategy, over its runs. Where there were several, each figure is the median over those that succeeded.

    Args:
        strategy: how it is called.
        workers: that it had; 0 where it trains in one process.
        trials: its runs.
    """

    strategy: str
    workers: int
    trials: tuple[Trial, ...]

    @property
    def whole(self) -> list[Trial]:
        """The runs that succeeded."""
        return [trial for trial in self.trials if trial.state == SUCCEEDED]

    @property
    def state(self) -> str:
        """`succeeded`, if each run did, and else what became of the first that did not."""
        return next((trial.state for trial in self.trials if trial.state != SUCCEEDED), SUCCEEDED)

    @property
    def shown(self) -> Trial | None:
        """The run whose curve stands for all: that with the median time."""
        inorder = sorted(self.whole, key=lambda trial: trial.metrics["elapsed_s"])
        return inorder[(len(inorder) - 1) // 2] if inorder else None

    def figures(self, target: float | None, metric: str) -> dict[str, Any]:
        """Its row of the table: each figure, or None where there is none.

        Args:
            target: the loss that was to be reached.
            metric: the primary one of the task.
        """
        reached = [trial.reached(target) for trial in self.whole]
        arrived = [point for point in reached if point is not None] if None not in reached else []
        names = ("elapsed_s", "rows_per_s", "steps", "bytes_sent", "bytes_received", "staleness_mean", "staleness_most", "workers_lost")
        return {
            "epochs_to_target": _middle(point.epoch for point in arrived),
            "s_to_target": _middle(point.elapsed_s for point in arrived),
            "bytes_to_target": _middle(point.bytes_moved for point in arrived),
            "loss": _middle(trial.points[-1].loss for trial in self.whole if trial.points),
            "metric": _middle(trial.metrics["validation"].get(metric) for trial in self.whole),
            **{name: _middle(trial.metrics.get(name) for trial in self.whole) for name in names},
        }

    def remarks(self) -> list[str]:
        """What is to be said of it beside its figures, each once."""
        ends = [f"{t.state}: {t.message}" if t.message else t.state for t in self.trials if t.state != SUCCEEDED]
        return list(dict.fromkeys([*ends, *(note for trial in self.trials for note in trial.notes)]))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison found.

    Args:
        data, task, model, workers, seed: what all had in common.
        adversity: what was done to the workers, in words.
        loss_of: `validation`, or `training` where no rows are set aside.
        metric: the primary one of the task, of the same rows, and whether `max` or `min` is better.
        entries: those that ran.
        cannot: those that could not, and why.
        asked_target: the loss to reach, where somebody gave one.
    """

    data: str
    task: str
    model: str
    workers: int
    seed: int
    adversity: tuple[str, ...] = ()
    loss_of: str = "validation"
    metric: tuple[str, str]
    entries: tuple[Entry, ...]
    cannot: dict[str, str] = field(default_factory=dict)
    asked_target: float | None = None

    @property
    def target(self) -> float | None:
        """The loss to which time is told: the one that was asked for, or the lowest that every run reached.

        max over the runs of min over its epochs of the loss
        """
        if self.asked_target is not None:
            return self.asked_target
        return max((loss for entry in self.entries for trial in entry.whole if (loss := trial.best_loss) is not None), default=None)

    @property
    def ranking(self) -> list[Entry]:
        """The entries, those first that reached the target soonest, and those last that did not, by their time in all."""
        far = float("inf")

        def order(entry: Entry) -> tuple[float, float]:
            found = entry.figures(self.target, self.metric[0])
            return tuple(far if found[name] is None else found[name] for name in ("s_to_target", "elapsed_s"))  # type: ignore[return-value]

        return sorted(self.entries, key=order)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each strategy, in the order of `ranking`."""
        found = []
        for entry in self.ranking:
            plain = {"strategy": entry.strategy, "workers": entry.workers, "state": entry.state}
            found.append({**plain, **entry.figures(self.target, self.metric[0]), "remarks": entry.remarks()})
        return found

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON: the rows, and each run with its curve."""
        runs = [
            {"strategy": entry.strategy, "run": t.run, "state": t.state, "points": [asdict(p) for p in t.points], "metrics": t.metrics}
            for entry in self.entries
            for t in entry.trials
        ]
        return {
            **{name: getattr(self, name) for name in ("data", "task", "model", "workers", "seed", "loss_of", "cannot", "target")},
            "target_is": "asked for" if self.asked_target is not None else "the lowest loss that every run reached",
            "metric": self.metric[0],
            "adversity": list(self.adversity),
            "strategies": self.rows(),
            "runs": runs,
        }

    def __str__(self) -> str:
        from aimass.training.comparing.table import as_text

        return as_text(self)

    def plot(self, path: str | Path) -> Path:
        """Draw the losses over time and over bytes. The file's ending says the format.

        Raises:
            TrainingError: no run got as far as the end of an epoch.
            UsageError: the format is not known.
        """
        from aimass.training.comparing.picture import draw

        return draw(self, Path(path))


def _middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are there."""
    known: Sequence[float] = [value for value in values if value is not None]
    return median(known) if known else None
