"""What happened in a run, in sentences for people."""

from __future__ import annotations

from aimass.core.events import Event
from aimass.data.schema import listed
from aimass.training import events as happened

_IN_ORDER = "ended with status 0"
_MOST_NAMES = 4  # in a line, of what one worker owns
_MOST_TENSORS = 5  # in a line, of what begins afresh or is adapted


def news(event: Event) -> str | None:
    """A sentence about an event that a person should see, and None for the others."""
    return _of_the_run(event) or _of_choices(event) or _of_workers(event)


def _of_the_run(event: Event) -> str | None:
    match event:
        case happened.RunStarted():
            return _of_the_start(event)
        case happened.StartedFrom():
            return _start_of(event)
        case happened.CheckpointFailed():
            return f"training goes on without a checkpoint of step {event.step:,}: {event.message}"
        case happened.CheckpointUnreadable():
            return f"checkpoint {event.name} is passed over: {event.reason}"
        case happened.Diverged() | happened.FitJudged():
            return event.message
        case happened.RolledBack():
            start = "its start" if not event.to_step else f"step {event.to_step:,}"
            return f"the run goes back from step {event.from_step:,} to {start}, and learns on at {event.rate_factor:g} times its rate"
        case happened.WebhookFailed():
            return f"the webhook did not hear of everything: {event.reason}"
        case happened.RunEnded(state="failed"):
            return f"failed at step {event.step:,}"
        case happened.RunEnded():
            return f"{event.state}: {event.message}"
    return None


def _of_choices(event: Event) -> str | None:
    match event:
        case happened.OptimizerChosen():
            return f"trains with {event.optimizer}, lr {event.lr:.3g}: {event.reason}"
        case happened.StrategyChosen():
            return f"trains by {event.strategy}: {event.reason}"
        case happened.PrecisionChosen(bf16_s=None):
            return "computing in float32: the model cannot in bfloat16"
        case happened.PrecisionChosen():
            float32_ms, bf16_ms = (f"{1000 * (seconds or 0.0):.3g} ms" for seconds in (event.float32_s, event.bf16_s))
            return f"computing in {event.precision}: a step takes {float32_ms} in float32 and {bf16_ms} in bf16"
    return None


def _of_workers(event: Event) -> str | None:
    match event:
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
        case happened.WorkerStalled() | happened.WorkerRecovered():
            return _of_a_stall(event)
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
