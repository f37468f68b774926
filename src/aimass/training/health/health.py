"""What a run knows of its own health, joined: the trainer asks it at every look, and it says so when training has to go back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.parameters.layout import INCARNATION, RATE_FACTOR
from aimass.training.events import Diverged, FitJudged, GradientRefused
from aimass.training.health.divergence import WINDOW_BATCHES, WINDOW_ROWS, Alarm, Divergence
from aimass.training.health.fit import Verdict, judge
from aimass.training.health.watch import Watch

if TYPE_CHECKING:
    from aimass.core.events import Event
    from aimass.parameters.shared_memory import SharedMemoryServer
    from aimass.training.config import TrainConfig
    from aimass.training.workers.counters import Counters

ADVICE = "lower optimizer.lr, set clip.norm, or look for extreme values in the data"
_REFUSED_IN_A_ROW = 50
_RATE_KEPT = 0.5
_JUDGEMENTS = 20


class RanAway(BaseException):
    """Unwinds the loop, out of whatever strategy it is in, to the trainer. No strategy may keep it, so it is no `Exception`.

    Args:
        diverged: what was seen.
    """

    def __init__(self, diverged: Diverged) -> None:
        super().__init__(diverged.message)
        self.diverged = diverged


class Health:
    """Watches over one run.

    Args:
        config: the run's settings.
        server: where the workers' words and the rate's factor lie.
        counters: what the workers have counted.
        guess: the loss of the best constant answer on the training rows, where it is known.
        num_validation: rows that each epoch is evaluated on.
        logs: the folder of the workers' output.
        tell: takes the events, from more than one thread.
        before: what `state` gave, in a run that goes on.

    Attributes:
        num_rollbacks: how often the run went back.
        ran_at_once: whether no window was a good one since it went back or was resumed.
        fit: what the curves say, or None where they say nothing.
    """

    def __init__(
        self,
        config: TrainConfig,
        server: SharedMemoryServer,
        counters: Counters,
        *,
        guess: float | None,
        num_validation: int,
        logs: Path,
        tell: Callable[[Event], object],
        before: Mapping[str, Any],
    ) -> None:
        self.config, self._rate = config.health, config.optimizer.learning_rate
        self._server, self._counters, self._tell = server, counters, tell
        self._guess, self._num_validation = guess, num_validation
        self._divergence = Divergence(self.config.factor, guess)
        self._divergence.restore(before.get("divergence", {}))
        keeps_rate = before.get("learning_rate") == self._rate  # one that was chosen anew is meant as it stands
        self.num_rollbacks: int = before["rollbacks"] if keeps_rate else 0
        server.reals[RATE_FACTOR] = before["rate_factor"] if keeps_rate else 1.0
        self._watch = Watch(self.config, server, lambda: self._pids(), logs, tell)
        self._pids: Callable[[], Mapping[int, int]] = dict
        self._told: set[str] = set()
        self._judge_at = 0
        self.fit: Verdict | None = None
        self._refused = [0] * server.layout.num_slots
        self._refused_of: list[int] = []
        self._good: list[tuple[int, int]] = []
        self._refused_since = (0, 0)
        self._window = _Window(counters)
        self._alarm: Diverged | None = None
        self._begin_window()
        self.ran_at_once = bool(before)

    def start(self, pids: Callable[[], Mapping[int, int]] | None) -> None:
        """Begin to watch the processes.

        Args:
            pids: gives the process of each worker, by slot; None where the caller's thread trains.
        """
        self._pids = pids or dict
        if self.config.enabled:
            self._watch.start(trains_here=pids is None)

    def driver_does(self, operation: int) -> None:
        """Note what the run's own thread does from now on."""
        self._watch.driver_does(operation)

    def close(self) -> None:
        """End the thread that watches. Nothing is told after that."""
        self._watch.close()

    # ------------------------------------------------------------------------------------------------------- divergence

    @property
    def is_suspicious(self) -> bool:
        """Whether the model of now may have diverged, so that it should not be kept: by the last window, or what there is of the next."""
        mean = _Window(self._counters).mean_since(self._window)
        begun = mean is not None and self._divergence.suspects(mean)
        return self.config.enabled and (begun or self._divergence.is_suspicious)

    def look(self, step: int) -> None:
        """Judge what was counted since the last look.

        Raises:
            RanAway: training has to go back.
        """
        self._watch.check()
        self.count_refused()
        if message := self._refused_in_a_row():
            raise RanAway(Diverged(step=step, cause="refused", loss=None, reference=None, message=message))
        if self.config.enabled:
            self._see_window(step)
        if self._alarm is not None:
            raise RanAway(self._alarm)

    def count_refused(self) -> None:
        """Tell of the gradients that were refused since the last look."""
        for slot, seen in enumerate(self._refused):
            self._refused[slot] = self._counters.refused(slot)
            if self._refused[slot] > seen:
                self._tell(GradientRefused(worker=slot, count=self._refused[slot] - seen))

    def _refused_in_a_row(self) -> str | None:
        """Whether all workers together, or one of them, give nothing else any more; in words."""
        since, before = self._refused_since
        if self._server.clock != since:
            self._refused_since = self._server.clock, sum(self._refused)
        elif (num := sum(self._refused) - before) >= _REFUSED_IN_A_ROW:
            return f"the last {num} gradients held NaN or infinity and were refused"
        for slot, num in enumerate(self._refused):
            good, seen = self._counters.good(slot), self._good[slot]
            if good[0] != seen[0] and good[1] != seen[1]:
                self._good[slot], self._refused_of[slot] = good, num
            elif num - self._refused_of[slot] >= _REFUSED_IN_A_ROW and len(self._refused) > 1:
                return f"the last {num - self._refused_of[slot]} gradients of worker {slot} held NaN or infinity and were refused"
        return None

    def see_epoch(self, history: list[dict[str, Any]], num_batches: int) -> None:
        """Judge the curve after an epoch was added to it. The next look says what came of it."""
        if not self.config.enabled:
            return
        loss, step = history[-1]["train_loss"], history[-1]["step"]
        if loss is not None and (alarm := self._divergence.see_epoch(loss, num_batches)):
            self._alarm = _told(alarm, step)
        if len(history) >= self._judge_at:  # of a long curve not every epoch, because each judgement reads all of it
            self._judge_at = len(history) + max(1, len(history) // _JUDGEMENTS)
            self.judge_fit(history)

    def judge_fit(self, history: list[dict[str, Any]]) -> None:
        """Say whether the model overfits or underfits, each once."""
        if not self.config.enabled:
            return
        self.fit = judge(history, self._guess, self._num_validation)
        if self.fit is not None and self.fit.verdict not in self._told:
            self._told.add(self.fit.verdict)
            self._tell(FitJudged(**asdict(self.fit)))

    def _see_window(self, step: int) -> None:
        counters, before = self._counters, self._window
        now = _Window(counters)
        if now.steps - before.steps < WINDOW_BATCHES or now.rows - before.rows < WINDOW_ROWS:
            return
        self._window, mean = now, now.mean_since(before)
        if mean is None:
            return
        if alarm := self._divergence.see(mean):
            self._alarm = _told(alarm, step)
        self.ran_at_once = self.ran_at_once and self._divergence.is_suspicious

    def _begin_window(self) -> None:
        self._window = _Window(self._counters)
        self._refused = [self._counters.refused(slot) for slot in range(len(self._refused))]
        self._refused_since = self._server.clock, sum(self._refused)
        self._refused_of = list(self._refused)
        self._good = [self._counters.good(slot) for slot in range(len(self._refused))]

    # -------------------------------------------------------------------------------------------------------- going back

    @property
    def rate_factor(self) -> float:
        """What every learning rate is multiplied with."""
        return self._server.reals[RATE_FACTOR]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        rate = {"learning_rate": self._rate, "rate_factor": self.rate_factor, "rollbacks": self.num_rollbacks}
        return {**rate, "divergence": self._divergence.state()}

    def went_back(self, state: Mapping[str, Any]) -> None:
        """The server, the leases and the counters are those of an earlier step again: halve the rate, and judge on from there.

        Args:
            state: what `state` gave at that step; nothing at the run's start.
        """
        self.num_rollbacks += 1
        self._server.reals[RATE_FACTOR] *= _RATE_KEPT
        self._server.words[INCARNATION] += 1
        self._divergence.restore(state.get("divergence", {}))
        self._alarm, self._judge_at, self.ran_at_once = None, 0, True
        self._begin_window()


class _Window:
    """What had been counted at one moment."""

    def __init__(self, counters: Counters) -> None:
        self.steps, self.rows, self.refused = counters.steps, counters.rows, counters.num_refused
        self.loss, self.loss_rows, self.loss_weight = counters.loss, counters.loss_rows, counters.loss_weight

    def mean_since(self, before: _Window) -> float | None:
        """The mean loss of the rows since then; infinity where most rows had none that is finite, although their gradients were taken;
        None where there is nothing to tell."""
        rows, finite, steps = self.rows - before.rows, self.loss_rows - before.loss_rows, self.steps - before.steps
        if 2 * finite < rows and 2 * (self.refused - before.refused) < steps:
            return inf
        weight = self.loss_weight - before.loss_weight
        return (self.loss - before.loss) / weight if weight > 0 else None


def _told(alarm: Alarm, step: int) -> Diverged:
    if alarm.reference is None or not isfinite(alarm.loss):
        message = f"training diverged: at step {step:,} the loss of most rows is not finite"
        return Diverged(step=step, cause="loss", loss=None, reference=alarm.reference, message=message)
    times = f"{alarm.loss / alarm.reference:.3g} times" if alarm.reference else "over"
    compared = f"{times} {alarm.meaning}, {alarm.reference:.4g}"
    message = f"training diverged: at step {step:,} the loss is {alarm.loss:.4g}, {compared}"
    return Diverged(step=step, cause="loss", loss=alarm.loss, reference=alarm.reference, message=message)
