"""`aimass.compare`: the same model, data and seed under several strategies.

1. Read what is wanted, and refuse what cannot be, before anything starts.
2. Warm up: one short run that is thrown away, so that the first to be measured does not pay for what all need once.
3. Run one strategy after another, or in turns where each runs several times, shaped as asked.
4. Put their figures side by side.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.core.errors import AimassError, TrainingError, UsageError
from aimass.training.comparing.adversity import Kill, Killer, check_workers, read_kills, read_slow
from aimass.training.comparing.contenders import ALL, Contender, choose, read_settings
from aimass.training.comparing.outcome import Comparison, Entry, Trial
from aimass.training.train import load_data, train, with_family
from aimass.training.workers.link import Link, read_link

if TYPE_CHECKING:
    from aimass.data.dataset import Dataset
    from aimass.training.run import Run
    from aimass.training.showing.display import Style

_MOST_REPEATS = 1000


def compare(
    data: Any,
    target: str | None = None,
    *,
    strategies: str | Sequence[str | Mapping[str, Any]] = ALL,
    workers: int = 2,
    target_loss: float | None = None,
    slow: Mapping[int, float] | Sequence[str] | str | None = None,
    kill: Mapping[int, Any] | Sequence[str | Kill] | str | None = None,
    link: str | Link | None = None,
    repeats: int = 1,
    progress: bool = False,
    home: str | Path | None = None,
    **settings: Any,
) -> Comparison:
    """Train the same model from the same seed on the same data by several strategies, and put them side by side.

    Args:
        data: what `aimass.data.load` gave, or anything that it takes.
        target: the column to predict, where `data` is not loaded yet.
        strategies: their names, in a list or with commas between them, or `all` for each that can run so. A strategy can have settings
            of its own: `"parameter_server:staleness=3"`, or a mapping with `name`.
        workers: worker processes of each; a strategy that trains in one process has none.
        target_loss: the validation loss to which time and epochs are told; by default the lowest that every run reached.
        slow: how many times as long a worker takes for a gradient: `{1: 3.0}` or `"1:3x"`.
        kill: which worker is killed when: `{1: "10s"}`, `"1@10s"`, `"1@50%"` of the steps, `"1@200"` at that step.
        link: what each worker's exchanges go over, as bandwidth and latency: `"20mbit,50ms"`.
        repeats: how often each runs; they take turns then, and each figure is the median.
        progress: show how each run goes.
        home: where the runs' folders go; by default `AIMASS_HOME`, or `~/.aimass`. They are runs like any other.
        settings: of every run, as for `aimass.train`.

    Raises:
        UsageError: a setting is unknown or out of range, or a strategy that was named cannot run so.
        TrainingError: no run succeeded.
        Cancelled: Ctrl-C; the run under way was stopped in good order.

    >>> import tempfile
    >>> found = compare("iris", strategies="single,async_sgd", epochs=2, home=tempfile.mkdtemp())
    >>> sorted(entry.strategy for entry in found.ranking), found.target > 0
    (['async_sgd', 'single'], True)
    """
    wanted = read(strategies, workers, target_loss=target_loss, slow=slow, kill=kill, link=link, repeats=repeats, settings=settings)
    contest = Contest(wanted, load_data(data, target), None if home is None else Path(home))
    return contest.carry_out(style=None, say=_say) if progress else contest.carry_out()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a comparison shall be, found sound as far as that can be told without the data."""

    strategies: str | Sequence[str | Mapping[str, Any]]
    workers: int
    settings: Mapping[str, Any]
    target_loss: float | None
    slow: Mapping[int, float]
    kills: tuple[Kill, ...]
    link: Link | None
    repeats: int


def read(
    strategies: str | Sequence[str | Mapping[str, Any]],
    workers: int,
    *,
    settings: Mapping[str, Any],
    target_loss: float | None = None,
    slow: Any = None,
    kill: Any = None,
    link: Any = None,
    repeats: int = 1,
) -> Wanted:
    """Read what people wrote; arguments as for `compare`.

    Raises:
        UsageError: something of it cannot be.
    """
    if own := [name for name in settings if name.split(".")[0] == "strategy"]:
        raise UsageError(f"{own[0]} is of one strategy; give it behind that strategy's name, such as parameter_server:staleness=3")
    if not isinstance(workers, int) or isinstance(workers, bool):
        raise UsageError(f"workers={workers!r} cannot be compared; give one number, which stays the same to the end")
    if not isinstance(repeats, int) or not 1 <= repeats <= _MOST_REPEATS:
        raise UsageError(f"repeats={repeats!r} cannot be; give a number from 1 to {_MOST_REPEATS:,}")
    if target_loss is not None and not (isinstance(target_loss, int | float) and isfinite(target_loss)):
        raise UsageError(f"target_loss={target_loss!r} is no loss; give a number, such as 0.2")
    config = read_settings({**settings, "workers": workers})
    slowness, kills = read_slow(slow), read_kills(kill)
    check_workers(workers, slowness, kills)
    if config.stop.num_epochs is None and config.stop.max_steps is None and any(one.share is not None for one in kills):
        raise UsageError(
            "the length of the runs is not known, and so no share of their steps; give epochs or max_steps, or a time to kill at"
        )
    return Wanted(
        strategies=strategies,
        workers=workers,
        settings=settings,
        target_loss=target_loss,
        slow=_checked_slow(slowness, read_link(link)),
        kills=kills,
        link=read_link(link),
        repeats=repeats,
    )


def _checked_slow(slow: dict[int, float], link: Link | None) -> dict[int, float]:
    from aimass.training.workers.shaping import Shape

    Shape(slow=slow, link=link)
    return slow


class Contest:
    """A comparison under way.

    Args:
        wanted: as `read` gave it.
        data: what all train on.
        home: where the runs' folders go.

    Raises:
        UsageError: a strategy that was named cannot run so, or none can.
    """

    def __init__(self, wanted: Wanted, data: Dataset, home: Path | None = None) -> None:
        self._wanted, self._data, self._home = wanted, data, home
        self.contenders, self._cannot = choose(wanted.strategies, wanted.workers, with_family(wanted.settings, home), data)
        self._trials: dict[str, list[Trial]] = {}

    def carry_out(
        self,
        *,
        style: Style | None = "none",
        say: Callable[[str], object] | None = None,
        started: Callable[[Run], object] | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Comparison:
        """Run everything.

        Args:
            style: how progress is shown; as for `follow`.
            say: is told which run comes next.
            started: is given each run as it begins.
            is_stopped: whether to begin no other one.

        Raises:
            TrainingError: no run succeeded, and it was not stopped.
            Cancelled: Ctrl-C.
        """
        self._warm_up()
        turns = [one for _ in range(self._wanted.repeats) for one in self.contenders]
        for number, contender in enumerate(turns, 1):
            if is_stopped():
                break
            if say is not None:
                say(f"{number}/{len(turns)}  {contender.label}")
            self._trials.setdefault(contender.label, []).append(self._run(contender, style, started))
        found = self._compare()
        if not is_stopped() and not any(entry.whole for entry in found.entries):
            remarks = [f"{entry.strategy} {remark}" for entry in found.entries for remark in entry.remarks()]
            raise TrainingError(f"no run succeeded: {'; '.join(remarks)}")
        return found

    def _run(self, contender: Contender, style: Style | None, started: Callable[[Run], object] | None) -> Trial:
        from aimass.training.showing.progress import follow
        from aimass.training.workers.shaping import shaped

        wanted, killer = self._wanted, Killer(self._wanted.kills if contender.config.workers else ())
        try:
            with shaped(slow=wanted.slow, link=wanted.link):
                run = train(self._data, home=self._home, **contender.settings)
        except AimassError as error:
            return Trial(state="refused", message=str(error))
        if started is not None:
            started(run)
        try:
            follow(run, style=style, hear=killer.hear)
        except KeyboardInterrupt:
            run.stop()
        finally:
            missed = killer.close()
        with suppress(AimassError):  # the run's folder says what ended it, and the others go on
            run.wait()
        return Trial.of(run, [f"worker {kill.worker} was not killed: the run ended before {kill.moment}" for kill in missed])

    def _warm_up(self) -> None:
        """Have torch imported and the process that forks workers started: that takes seconds, and once."""
        with tempfile.TemporaryDirectory() as folder:
            settings = {name: value for name, value in self._wanted.settings.items() if not name.startswith(("stop", "health"))}
            ends = ("epochs", "max_steps", "tolerance", "patience", "budget")
            settings = {name: value for name, value in settings.items() if name not in ends}
            workers = max(contender.config.workers for contender in self.contenders)
            with suppress(AimassError):  # the others will say what is wrong
                train(self._data, home=folder, **settings, workers=workers, max_steps=max(1, workers)).wait()

    def _compare(self) -> Comparison:
        from aimass.models.tasks import build_task

        wanted, config = self._wanted, self.contenders[0].config
        some = any(one.config.workers for one in self.contenders)
        slow = [f"worker {worker} takes {factor:g} times as long" for worker, factor in wanted.slow.items() if factor != 1 and some]
        link = [f"exchanges over {wanted.link}"] if wanted.link else []
        entries = [
            Entry(strategy=one.label, workers=one.config.workers, trials=tuple(self._trials[one.label]))
            for one in self.contenders
            if one.label in self._trials
        ]
        return Comparison(
            data=self._data.name,
            task=self._data.task,
            model=config.model.name,
            workers=wanted.workers,
            seed=config.seed,
            adversity=(*slow, *map(str, wanted.kills if some else ()), *(link if some else ())),
            loss_of="validation" if len(self._data.validation) else "training",
            metric=build_task(self._data.task).primary,
            entries=tuple(entries),
            cannot=self._cannot,
            asked_target=wanted.target_loss,
        )
