"""The commands put together."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from aimass.cli import data, runs
from aimass.cli.demo import demo
from aimass.cli.evaluate import evaluate
from aimass.cli.predict import predict
from aimass.cli.settings import SettingsCommand
from aimass.cli.train import train
from aimass.cli.up import up
from aimass.core.errors import UsageError

UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]
"""The base of what typer raises about a command line that it cannot read."""

app = typer.Typer(
    name="aimass",
    help="Data in, a trained model out: train on several worker processes from one line.",
    epilog="Start with `aimass demo`, or with `aimass train customers.csv --target churn --workers 2`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=SettingsCommand, epilog="Example: aimass train customers.csv --target churn --workers 2 --optimizer.lr 0.01 --out churn")(
    train
)
app.command(epilog="Example: aimass predict churn new_customers.csv --out predictions.csv")(predict)
app.command(epilog="Example: aimass evaluate churn last_month.csv")(evaluate)
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.command()(demo)
app.command(epilog="Example: aimass up --port 8321 --engines 2")(up)


def _print_version(wanted: bool) -> None:
    if wanted:
        from aimass import __version__

        typer.echo(f"aimass {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which version this is, and leave.")
    ] = False,
) -> None:
    """What stands before the command. Only `--version` does, and its callback has acted on it."""


def command() -> Any:
    """The whole as a command that can be run."""
    return typer.main.get_command(app)


def in_words(problem: Any) -> UsageError | None:
    """What typer found wrong with a command line, as our own error; None where it only wants to show help."""
    if type(problem).__name__ == "NoArgsIsHelpError":
        return None
    message = re.sub(r"\s+", " ", problem.format_message()).strip().rstrip(".").replace(". Did you mean", "; did you mean")
    context = getattr(problem, "ctx", None)
    hint = f"`{context.command_path} --help` shows what there is" if context is not None else ""
    error = UsageError(f"{message[:1].lower()}{message[1:]}{' ' if message.endswith('?') else '; '}{hint}".rstrip("; "))
    error.param = getattr(getattr(problem, "param", None), "name", None)
    return error
