"""What the events of a run have told so far, and how it is said in a line."""

from __future__ import annotations

from dataclasses import dataclass, field

from aimass.core.events import Event
from aimass.data.schema import listed
from aimass.training import events as happened

_IN_ORDER = "ended with status 0"
_MOST_NAMES = 4  # in a line, of what one worker owns
_MOST_TENSORS = 5  # in a line, of what begins afresh or is adapted


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


def news(event: Event) -> str | None:
    """A sentence about an event that a person should see, and None for the others."""
    match event:
        case happened.RunStarted():
            return _of_the_start(event)
        case happened.StartedFrom():
            return _start_of(event)
        case happened.OptimizerChosen():
            return f"trains with {event.optimizer}, lr {event.lr:.3g}: {event.reason}"
        case happened.StrategyChosen():
            return f"trains by {event.strategy}: {event.reason}"
        case happened.PrecisionChosen(bf16_s=None):
            return "computing in float32: the model cannot in bfloat16"
        case happened.PrecisionChosen():
            float32_ms, bf16_ms = (f"{1000 * (seconds or 0.0):.3g} ms" for seconds in (event.float32_s, event.bf16_s))
            return f"computing in {event.precision}: a step takes {float32_ms} in float32 and {bf16_ms} in bf16"
        case happened.BlocksOwned():
            return _of_blocks(event)
        case happened.WorkerLost():
            inside = " inside a push" if event.inside_push else ""
            return f"worker {event.worker} is lost: process {event.pid} was {event.how}{inside}"
        case happened.SupernodeReplaced():
            before = f"worker {event.before}" if event.before != event.worker else "the one before it"
            return f"worker {event.worker} (process {event.pid}) leads group {event.group} in place of {before}"
        case happened.GroupsFormed():
            groups = " and ".join(f"[{', '.join(str(worker) for worker in group['workers'])}]" for group in event.groups)
            differ = f"speeds differ {event.unlike:.1f}-fold in them, and not {event.before:.1f}-fold"
            return f"workers of like speed go together, in groups {groups}: {differ}"
        case happened.Scaled():
            why = "" if event.reason == "asked" else f": {event.reason}"
            return f"from {event.before} to {event.workers} worker{'' if event.workers == 1 else 's'}{why}"
        case happened.WorkerLeft():
            return f"worker {event.worker} has left"
        case happened.DriverPaused():
            return f"the process that watches the run stood still for {event.seconds:.1f} s; nobody is held to it"
        case happened.WorkerStuck():
            return f"worker {event.worker} stood still for {event.stuck_s:.1f} s, stopped or with a lock; process {event.pid} is killed"
        case happened.WorkerStarted(replaces_dead=True):
            return f"worker {event.worker} runs again as process {event.pid}"
        case happened.LeaseReassigned() if not event.reason.endswith(_IN_ORDER):  # one who leaves gives back what is left
            return f"lease {event.lease} goes on from its batch {event.from_batch}: {event.reason}"
        case happened.CheckpointFailed():
            return f"training goes on without a checkpoint of step {event.step:,}: {event.message}"
        case happened.CheckpointUnreadable():
            return f"checkpoint {event.name} is passed over: {event.reason}"
        case happened.Diverged() | happened.FitJudged():
            return event.message
        case happened.RolledBack():
            start = "its start" if not event.to_step else f"step {event.to_step:,}"
            return f"the run goes back from step {event.from_step:,} to {start}, and learns on at {event.rate_factor:g} times its rate"
        case happened.WorkerStalled() | happened.WorkerRecovered():
            return _of_a_stall(event)
        case happened.WebhookFailed():
            return f"the webhook did not hear of everything: {event.reason}"
        case happened.RunEnded(state="failed"):
            return f"failed at step {event.step:,}"
        case happened.RunEnded():
            return f"{event.state}: {event.message}"
    return None


def _of_the_start(event: happened.RunStarted) -> str:
    number = f"{event.least_workers} to {event.workers}" if event.least_workers else f"{event.workers}"
    workers = f" with {number} worker{'' if event.workers == 1 else 's'}" if event.workers else ""
    onwards = f", going on from step {event.resumed_at_step:,}" if event.resumed_at_step is not None else ""
    where = "" if event.devices in ([], ["cpu"]) else f", on {' and '.join(event.devices)}"
    what = f"{event.rows:,} rows, {event.parameters:,} parameters, {event.strategy}"
    return f"training on {event.data}: {what}{workers}{where}{onwards}"


def _of_blocks(event: happened.BlocksOwned) -> str:
    owned: dict[int, list[str]] = {}
    sizes: dict[int, int] = {}
    for block in event.blocks:
        part = f" from {block['start']:,}" if block["start"] else ""
        owned.setdefault(block["owner"], []).append(f"{block['name']}{part} ({block['size']:,})")
        sizes[block["owner"]] = sizes.get(block["owner"], 0) + block["size"]
    told = []
    for owner, names in owned.items():
        more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
        told.append(f"worker {owner} owns {sizes[owner]:,} parameters: {', '.join(names[:_MOST_NAMES])}{more}")
    return "; ".join(told)


def _of_a_stall(event: happened.WorkerStalled | happened.WorkerRecovered) -> str:
    who = "the run's own process" if event.worker is None else f"worker {event.worker}"
    if isinstance(event, happened.WorkerRecovered):
        return f"{who} (process {event.pid}) gets on again after {event.after_s:.1f} s"
    where = f" in {event.place}" if event.place else ""
    doing = "it was stopped by a signal" if event.is_stopped else f"it is {event.operation}{where}"
    return f"{who} (process {event.pid}) has not got on for {event.still_s:.1f} s: {doing}"


def _start_of(event: happened.StartedFrom) -> str:
    tensors = f"{len(event.copied)} tensor{'' if len(event.copied) == 1 else 's'}"
    begins = f"begins with {tensors} of {event.source}" if event.source else "begins with the module as it is"
    fresh = f", {listed(event.fresh, _MOST_TENSORS)} afresh" if event.source and event.fresh else ""
    adapters = f", adapters beside {listed(event.adapters, _MOST_TENSORS)}" if event.adapters else ""
    learns = f"{event.trainable_parameters:,} parameters learn, {event.frozen_parameters:,} stay as they are"
    return f"{begins}{fresh}{adapters}: {learns}" + (f". Warning: {event.warning}" if event.warning else "")
