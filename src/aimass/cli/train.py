"""`aimass train`: from data to a model, or on from where a run stopped."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aimass.cli.exchange import print_groups, print_servers, print_shares, staleness_line, traffic_line
from aimass.cli.help import HelpAll
from aimass.cli.interrupts import StopInOrder
from aimass.cli.options import AsJson, check_plot
from aimass.cli.output import figures, print_data, print_json
from aimass.cli.settings import META, with_names
from aimass.cli.training_options import (
    DATA_OPTIONS,
    OF_DATA,
    OF_MODEL,
    OF_RUN,
    OF_WORKERS,
    SETTINGS,
    data_options,
    given_of,
    option,
    taking,
)
from aimass.core.errors import Cancelled, UsageError

if TYPE_CHECKING:
    from aimass.data.dataset import Dataset
    from aimass.training.run import Run

RESULT = "Result"


class Progress(Enum):
    """How progress is shown."""

    bar = "bar"
    lines = "lines"
    none = "none"


@taking(OF_DATA | OF_MODEL | OF_WORKERS | OF_RUN, before="resume")
def train(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A CSV file, a folder of images, or a sample: digits, iris, wine, ...")
    ] = None,
    resume: Annotated[str | None, option(RESULT, "Go on with this run from its newest checkpoint; no DATA then.", metavar="RUN")] = None,
    out: Annotated[Path | None, option(RESULT, "Save the model as this folder.", metavar="FOLDER")] = None,
    plot: Annotated[Path | None, option(RESULT, "Draw the learning curve: .png, .svg or .pdf.", metavar="FILE")] = None,
    progress: Annotated[Progress | None, option(RESULT, "By default a bar in a terminal, and lines elsewhere.")] = None,
    json: AsJson = False,
    help_all: HelpAll = False,
) -> None:
    """Train a model on data, or go on with a run by --resume RUN."""
    given = given_of(context)
    settings = {name: given[name] for name in SETTINGS if name in given} | context.meta[META]
    _check_places(out, plot)
    with StopInOrder() as stop:
        if resume is not None:
            start = _resumption(resume, given, settings)
        else:
            settings = _checked(with_names(settings))
            dataset = _load(data, given)
            start = _beginning(dataset, settings, quiet=json)
        run = carry_out(start, stop, style=progress.value if progress else None)
    _report(run, out, plot, as_json=json)


def carry_out(start: Callable[[], Run], stop: StopInOrder, style: Any = None) -> Run:
    """Start a run and show it to its end.

    Raises:
        Cancelled: it was asked to stop; the message has the line that goes on with it.
        AimassError: what else ended it.
    """
    from aimass.training.showing.progress import follow

    stop.starting()
    run = start()
    stop.started(run)
    follow(run, style=style)
    run.wait()
    if run.state == "cancelled":
        raise Cancelled(f"stopped at a whole checkpoint; go on with: aimass train --resume {run.id}")
    return run


def _load(source: str | None, given: dict[str, Any]) -> Dataset:
    from aimass.data import load

    if source is None:
        raise UsageError("there is nothing to train on; give DATA (a CSV file, or a sample such as digits), or --resume RUN")
    return load(source, given.get("target"), **data_options(given))


def _beginning(dataset: Dataset, settings: dict[str, Any], *, quiet: bool) -> Callable[[], Run]:
    from aimass.training.train import train as begin

    if not quiet:
        print_data(dataset)
    return lambda: begin(dataset, **settings)


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as they are, after they were found sound: before data is read, which may take long."""
    from aimass.training.settling import settle

    settle(settings)
    return settings


def _resumption(name: str, given: dict[str, Any], changes: dict[str, Any]) -> Callable[[], Run]:
    from aimass.training.train import resume

    refused = [option for option in ("data", "target", *DATA_OPTIONS) if option in given]
    if refused:
        option = "DATA" if refused[0] == "data" else f"--{refused[0].replace('_', '-')}"
        raise UsageError(f"{option} cannot be given with --resume: a run goes on with the data that it was started on")
    return lambda: resume(name, **changes)


def _check_places(out: Path | None, plot: Path | None) -> None:
    """Refuse, before the training and not after it, to write where nothing can be written."""
    there = out.resolve() if out is not None else None
    if there is not None and there.exists() and not (there / "model.json").is_file() and (not there.is_dir() or any(there.iterdir())):
        raise UsageError(f"--out {out} is there already and is no model; choose another folder")
    check_plot(plot)


def _report(run: Run, out: Path | None, plot: Path | None, *, as_json: bool) -> None:
    model, metrics, dataset = run.model, run.metrics(), run.data
    test = model.evaluate(dataset.test) if dataset is not None and len(dataset.test) else None
    saved = model.save(out) if out is not None else run.folder / "model"
    drawn = run.plot(plot) if plot is not None else None
    if as_json:
        found = {**run.summary(), "folder": str(run.folder), "test": test, "out": str(saved), "plot": str(drawn) if drawn else None}
        return print_json(found)
    if metrics["validation"]:
        best = metrics["best"]
        in_epoch = {name: value for name, value in best.items() if name != "epoch"}
        typer.echo(f"validation  {figures(metrics['validation'])}  (best: {figures(in_epoch)}, in epoch {best.get('epoch')})")
    if test:
        typer.echo(f"test        {figures(test)}")
    if stale := staleness_line(metrics):
        typer.echo(f"staleness   {stale}")
    if traffic := traffic_line(metrics):
        typer.echo(f"traffic     {traffic}")
    print_servers(metrics)
    print_groups(metrics)
    print_shares(metrics)
    if drawn:
        typer.echo(f"curve       {drawn}")
    typer.echo(f"model       {saved}")
    use = f"generate {out or run.id} TEXT" if model.encoder.context else f"predict {out or run.id} DATA"
    typer.echo(f"next        aimass {use}   or   aimass runs show {run.id}")
