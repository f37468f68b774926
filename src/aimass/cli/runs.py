"""`aimass runs`: what was trained, and how it went."""

from __future__ import annotations

import json as jsons
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aimass.cli.exchange import histogram, print_groups, print_servers, print_shares, staleness_line, traffic_line
from aimass.cli.options import AsJson
from aimass.cli.output import figures, number, print_json, print_table
from aimass.cli.run_health import INCIDENTS, describe_health, print_samples, print_states

if TYPE_CHECKING:
    from aimass.core.events import Envelope
    from aimass.training.run import Run

app = typer.Typer(help="See what was trained, and how it went.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of it, or its folder.")]


@app.command("list", epilog="Example: aimass runs list --limit 5")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    json: AsJson = False,
) -> None:
    """List the runs, the newest first."""
    from aimass.core.files import home
    from aimass.training.run import Run
    from aimass.training.showing.standing import duration, headline

    runs = Run.list()
    summaries = [run.summary() for run in runs[:limit]]
    if json:
        return print_json({"object": "list", "data": summaries, "has_more": len(runs) > limit})
    if not summaries:
        return typer.echo(f"there are no runs in {home() / 'runs'} yet; start one with: aimass train digits")
    header = ("run", "state", "data", "model", "strategy", "workers", "created", "took", "validation")
    rows = []
    for found in summaries:
        metrics = found["metrics"] or {}
        took = duration(metrics["elapsed_s"]) if "elapsed_s" in metrics else None
        plain = [found[name] for name in ("id", "state", "data", "model", "strategy", "workers")]
        rows.append((*plain, _moment(found["created"]), took, headline(metrics.get("validation", {}))))
    print_table(header, rows, right=("workers", "took"))
    if len(runs) > limit:
        typer.echo(f"and {len(runs) - limit:,} older; --limit {len(runs)} shows all")


@app.command(epilog="Example: aimass runs show run-2026 --events")
def show(
    run: Name,
    events: Annotated[bool, typer.Option("--events", help="Print every event.")] = False,
    json: AsJson = False,
) -> None:
    """Show one run: its settings, how it went, and what happened."""
    from aimass.training.run import Run

    found = Run.open(run)
    if json:
        happened = list(map(_as_line, found.events()))
        story = {"events": happened} if events else {"events_by_type": dict(Counter(event["type"] for event in happened))}
        return print_json({**found.summary(), "folder": str(found.folder), "config": found.config.model_dump(mode="json"), **story})
    if events:
        for envelope in found.events():
            typer.echo(f"{_moment(envelope.time, exact=True)}  {envelope.type:<20} {jsons.dumps(envelope.data, ensure_ascii=False)}")
        return
    _show(found)


@app.command(epilog="Example: aimass runs health run-2026")
def health(run: Name, json: AsJson = False) -> None:
    """Show what the processes of a run cost and get done, and what was not well: divergence, stalls, workers lost, the fit."""
    from aimass.training.run import Run

    found = Run.open(run)
    events = list(found.events())
    incidents = [event for event in events if event.type in INCIDENTS]
    if json:
        return print_json(describe_health(found, list(map(_as_line, incidents))))
    print_samples(events)
    print_states(events)
    for sentence in _noteworthy(incidents) or [f"nothing was amiss{' so far' * (found.state == 'running')}"]:
        typer.echo(f"  {sentence}")


@app.command(epilog="Example: aimass runs plot run-2026 curve.png")
def plot(
    run: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to: .png, .svg or .pdf.")],
    json: AsJson = False,
) -> None:
    """Draw the learning curve of a run."""
    from aimass.training.run import Run

    drawn = Run.open(run).plot(file)
    return print_json({"plot": str(drawn)}) if json else typer.echo(f"the learning curve is in {drawn}")


@app.command(epilog="Example: aimass runs follow run-2026")
def follow(run: Name) -> None:
    """Watch a run that another process trains, until it ends. Ctrl-C stops watching and not the run."""
    from aimass.training.run import Run
    from aimass.training.showing.progress import follow as watch

    found = Run.open(run)
    watch(found)
    typer.echo(f"{found.id} is {found.state}")


@app.command(epilog="Example: aimass runs scale run-2026 4")
def scale(
    run: Name,
    workers: Annotated[int, typer.Argument(metavar="N", help="How many workers it shall have, within the range that it was started with.")],
    json: AsJson = False,
) -> None:
    """Give a run that goes more workers, or fewer. It must have been started with a range, such as --workers 1:4."""
    from aimass.training.run import Run

    found = Run.open(run)
    found.scale(workers)
    return (
        print_json({"run": found.id, "workers": workers})
        if json
        else typer.echo(f"{found.id} goes on with {workers:,} worker{'s' * (workers != 1)}")
    )


def _show(run: Run) -> None:
    summary = run.summary()
    metrics = summary["metrics"] or {}
    facts: dict[str, Any] = {
        "run": run.id,
        "state": summary["state"] + (f": {summary['message']}" if summary["message"] else ""),
        "data": summary["data"],
        "created": _moment(summary["created"]),
        "folder": run.folder,
        "settings": _settings(run),
    }
    for name in ("steps", "epochs", "elapsed_s", "rows_per_s", "train_loss", "workers_lost", "gradients_refused", "rollbacks"):
        if metrics.get(name) is not None:
            facts[name.replace("_", " ")] = number(metrics[name]) if name == "train_loss" else f"{metrics[name]:,}"
    if metrics.get("validation"):
        facts["validation"] = figures(metrics["validation"])
        facts["best"] = figures(metrics["best"])
    if sum(metrics.get("staleness", [])):
        facts["staleness"] = histogram(metrics["staleness"], metrics.get("staleness_most", 0))
    if stale := staleness_line(metrics):
        facts[""] = stale
    if traffic := traffic_line(metrics):
        facts["traffic"] = traffic
    events = list(run.events())
    facts["events"] = ", ".join(f"{count:,} {kind}" for kind, count in Counter(event.type for event in events).most_common())
    for name, value in facts.items():
        typer.echo(f"{name:<18}{value}")
    print_servers(metrics)
    print_groups(metrics)
    print_shares(metrics)
    for sentence in _noteworthy(events):
        typer.echo(f"  {sentence}")
    print_samples(events)
    print_states(events)
    if summary["state"] in ("cancelled", "failed", "interrupted"):
        typer.echo(f"go on with it: aimass train --resume {run.id}")


def _noteworthy(events: list[Envelope]) -> list[str]:
    from aimass.training import events as known  # it makes the types known, so that envelopes can be read
    from aimass.training.showing.news import news

    typed = [(envelope.time, envelope.event()) for envelope in events]
    plain = (known.Progress, known.EpochEnded)
    told = [(when, news(event)) for when, event in typed if event is not None and not isinstance(event, plain)]
    return [f"{_moment(when, exact=True)}  {sentence}" for when, sentence in told if sentence]


def _settings(run: Run) -> str:
    """The settings that are not the default ones, as options of `aimass train`."""
    from aimass.training.config import TrainConfig

    config = run.config.model_dump(mode="json")
    names = {kind: config[kind]["name"] for kind in ("model", "strategy")}
    default = TrainConfig.parse({**names, "workers": config["workers"]}).model_dump(mode="json")
    plain = dict(_flat({**default, "workers": 0}))
    config["workers"] = str(run.config.worker_range) if config["workers"] else 0
    config.pop("least_workers")
    options = [f"--{kind} {name}" for kind, name in names.items()]
    for name, value in _flat(config):
        if value != plain.get(name):
            options.append(f"--{name} {','.join(map(str, value)) if isinstance(value, list) else value}")
    return " ".join(options)


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _as_line(envelope: Envelope) -> dict[str, Any]:
    return {name: getattr(envelope, name) for name in ("v", "run", "seq", "time", "type", "data")}


def _moment(seconds: float, *, exact: bool = False) -> str:
    return time.strftime("%H:%M:%S" if exact else "%Y-%m-%d %H:%M", time.localtime(seconds))
