"""`aimass compare`: the same model, data and seed under several strategies, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aimass.cli.help import HelpAll
from aimass.cli.interrupts import StopInOrder
from aimass.cli.options import AsJson, Source, check_plot
from aimass.cli.output import print_data, print_json, print_table
from aimass.cli.settings import META
from aimass.cli.train import Progress
from aimass.cli.training_options import OF_DATA, OF_MODEL, OF_RUN, SETTINGS, data_options, given_of, option, taking
from aimass.core.errors import Cancelled

if TYPE_CHECKING:
    from aimass.training.comparing.outcome import Comparison

COMPARED, RESULT = "What is compared", "Result"


@taking(OF_DATA | OF_MODEL | OF_RUN, before="plot")
def compare(
    context: typer.Context,
    data: Source,
    strategies: Annotated[
        str, option(COMPARED, "Which, with settings of their own where wanted: async_sgd,parameter_server:staleness=3.", metavar="A,B,C")
    ] = "all",
    workers: Annotated[int, option(COMPARED, "Worker processes of each; one that trains in one process has none.")] = 2,
    target_loss: Annotated[
        float | None, option(COMPARED, "The validation loss to be reached; by default the lowest that every run reached.", metavar="LOSS")
    ] = None,
    slow: Annotated[
        list[str] | None, option(COMPARED, "Worker 1 takes three times as long: 1:3x. May be repeated.", metavar="WORKER:FACTOR")
    ] = None,
    kill: Annotated[
        list[str] | None,
        option(
            COMPARED, "Kill worker 1 after 10 s, half way, or at step 200: 1@10s, 1@50%, 1@200. May be repeated.", metavar="WORKER@WHEN"
        ),
    ] = None,
    link: Annotated[
        str | None, option(COMPARED, "What exchanges go over, as bandwidth and latency, such as 20mbit,50ms.", metavar="RATE,TIME")
    ] = None,
    repeats: Annotated[int, option(COMPARED, "How often each runs, in turns; each figure is the median then.")] = 1,
    plot: Annotated[Path | None, option(RESULT, "Draw the loss over time and over bytes: .png, .svg or .pdf.", metavar="FILE")] = None,
    progress: Annotated[Progress | None, option(RESULT, "By default a bar in a terminal, and lines elsewhere.")] = None,
    json: AsJson = False,
    help_all: HelpAll = False,
) -> None:
    """Train the same model from the same seed by several strategies, and see how soon each reaches a loss, and at what cost."""
    from aimass.data import load
    from aimass.training.comparing.compare import Contest, read

    given = given_of(context)
    settings = {name: given[name] for name in SETTINGS if name in given and name != "workers"} | context.meta[META]
    check_plot(plot)
    wanted = read(
        strategies, workers, target_loss=target_loss, slow=slow, kill=kill, link=link, repeats=repeats, settings=_with_model(settings)
    )
    with StopInOrder() as stop:
        dataset = load(data, given.get("target"), **data_options(given))
        contest = Contest(wanted, dataset)
        if not json:
            print_data(dataset)
        stop.starting()
        say = None if json else lambda line: typer.echo(line, err=True)
        style: Any = progress.value if progress else None
        found = contest.carry_out(style="none" if json else style, say=say, started=stop.started, is_stopped=lambda: stop.is_asked)
    _report(found, plot, as_json=json)
    if stop.is_asked:
        raise Cancelled("stopped; the runs that ended are above, and `aimass runs list` shows the one that was under way")


def _with_model(settings: dict[str, Any]) -> dict[str, Any]:
    """Add the default name of a model of which only a field was given."""
    needed = any(name.startswith("model.") for name in settings) and "model" not in settings
    return {"model": "mlp", **settings} if needed else settings


def _report(found: Comparison, plot: Path | None, *, as_json: bool) -> None:
    from aimass.training.comparing.table import header, lines, row

    drawn = found.plot(plot) if plot is not None and any(entry.shown for entry in found.entries) else None
    if as_json:
        return print_json({**found.as_dict(), "plot": str(drawn) if drawn else None})
    columns = header(found)
    print_table(columns, [row(figures) for figures in found.rows()], right=columns[1:])
    typer.echo()
    for line in lines(found):
        typer.echo(line)
    if drawn:
        typer.echo(f"curves      {drawn}")
