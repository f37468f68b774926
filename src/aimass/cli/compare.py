"""`aimass compare`: the same model, data and seed under several strategies, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aimass.cli.interrupts import StopInOrder
from aimass.cli.options import AsJson, Missing, Schema, Source, Target
from aimass.cli.output import number, print_json, print_table, size
from aimass.cli.settings import META
from aimass.cli.train import Progress
from aimass.cli.training_options import (
    SETTINGS,
    TRAINING,
    BatchSize,
    Budget,
    Clip,
    Epochs,
    LearningRate,
    MaxSteps,
    Optimizer,
    Precision,
    Schedule,
    Seed,
    Split,
    SplitSeed,
    Stratify,
    Task,
    Weight,
    data_options,
    option,
)
from aimass.core.errors import Cancelled

if TYPE_CHECKING:
    from aimass.training.comparing.outcome import Comparison

COMPARED, RESULT = "What is compared", "Result"
_COLUMNS = ("strategy", "workers", "epochs to target", "s to target", "s in all", "loss", "moved", "stale by", "lost")


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
    target: Target = None,
    schema: Schema = None,
    missing: Missing = None,
    task: Task = None,
    split: Split = None,
    stratify: Stratify = None,
    split_seed: SplitSeed = None,
    weight: Weight = None,
    model: Annotated[str | None, option(TRAINING, "The model's family, such as mlp or linear.")] = None,
    batch_size: BatchSize = None,
    optimizer: Optimizer = None,
    lr: LearningRate = None,
    schedule: Schedule = None,
    clip: Clip = None,
    seed: Seed = None,
    precision: Precision = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    budget: Budget = None,
    out: Annotated[Path | None, option(RESULT, "Draw the loss over time and over bytes: .png, .svg or .pdf.", metavar="FILE")] = None,
    progress: Annotated[Progress | None, option(RESULT, "By default a bar in a terminal, and lines elsewhere.")] = None,
    json: AsJson = False,
) -> None:
    """Train the same model from the same seed by several strategies, and see which is how soon where, at what cost. Every setting in the
    table below but those of strategies is an option too."""
    from aimass.data import load
    from aimass.training.comparing.compare import Contest, read
    from aimass.training.comparing.picture import check_format

    given = {name: value for name, value in context.params.items() if value not in (None, [], ())}
    settings = {name: given[name] for name in SETTINGS if name in given and name != "workers"} | context.meta[META]
    if out is not None:
        check_format(out)
    wanted = read(
        strategies, workers, target_loss=target_loss, slow=slow, kill=kill, link=link, repeats=repeats, settings=_with_model(settings)
    )
    with StopInOrder() as stop:
        dataset = load(data, target, **data_options(given))
        contest = Contest(wanted, dataset)
        if not json:
            typer.echo(repr(dataset), err=True)
        stop.starting()
        say = None if json else lambda line: typer.echo(line, err=True)
        style: Any = progress.value if progress else None
        found = contest.carry_out(style="none" if json else style, say=say, started=stop.started, is_stopped=lambda: stop.is_asked)
    _report(found, out, as_json=json)
    if stop.is_asked:
        raise Cancelled("stopped; the runs that ended are above, and `aimass runs list` shows the one that was under way")


def _with_model(settings: dict[str, Any]) -> dict[str, Any]:
    """Add the default name of a model of which only a field was given."""
    needed = any(name.startswith("model.") for name in settings) and "model" not in settings
    return {"model": "mlp", **settings} if needed else settings


def _report(found: Comparison, out: Path | None, *, as_json: bool) -> None:
    drawn = found.plot(out) if out is not None and any(entry.shown for entry in found.entries) else None
    if as_json:
        return print_json({**found.as_dict(), "plot": str(drawn) if drawn else None})
    header = (*_COLUMNS[:6], found.metric[0], *_COLUMNS[6:])
    print_table(header, [_row(row) for row in found.rows()], right=header[1:])
    typer.echo()
    typer.echo(f"model       {found.model}, seed {found.seed}, on {found.data}{''.join(f'; {what}' for what in found.adversity)}")
    if found.target is not None:
        how = "asked for" if found.asked_target is not None else "the lowest that every run reached"
        typer.echo(f"target      {found.loss_of} loss {number(found.target)}, {how}")
    for row in found.rows():
        for remark in row["remarks"]:
            typer.echo(f"note        {row['strategy']}: {remark}")
    for strategy, why in found.cannot.items():
        typer.echo(f"left out    {strategy}: {why}")
    if drawn:
        typer.echo(f"curves      {drawn}")


def _row(row: dict[str, Any]) -> list[Any]:
    moved = (row["bytes_sent"] or 0) + (row["bytes_received"] or 0)
    stale = f"{row['staleness_mean']:.2f}, most {row['staleness_most']:.0f}" if row["staleness_most"] else None
    return [
        row["strategy"],
        row["workers"],
        number(row["epochs_to_target"]),
        _seconds(row["s_to_target"]),
        _seconds(row["elapsed_s"]),
        number(row["loss"]),
        number(row["metric"]),
        size(moved) if moved else None,
        stale,
        f"{row['workers_lost']:.0f}" if row["workers_lost"] else None,
    ]


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"
