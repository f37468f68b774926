"""The commands put together."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from aimass.cli import data, demo, evaluate, predict, runs, train
from aimass.core.errors import UsageError

UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]
"""What typer raises about a command line that it cannot read, the base of all such."""

app = typer.Typer(
    name="aimass",
    help="Data in, a trained model out: train on several worker processes from one line.",
    epilog="Start with: aimass demo. Or: aimass train customers.csv --target churn --workers 2",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
train.register(app)
predict.register(app)
evaluate.register(app)
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
demo.register(app)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.", is_eager=True)] = False,
) -> None:
    if version:
        from aimass import __version__

        typer.echo(f"aimass {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def command() -> Any:
    """The whole as a command that can be run."""
    return typer.main.get_command(app)


def in_words(problem: Any) -> UsageError | None:
    """What typer found wrong with a command line, as our own error; None where it has only printed help."""
    if type(problem).__name__ == "NoArgsIsHelpError":
        typer.echo(problem.ctx.get_help())
        return None
    message = re.sub(r"\s+", " ", problem.format_message()).strip().rstrip(".")
    context = getattr(problem, "ctx", None)
    hint = f"; `{context.command_path} --help` shows what there is" if context is not None else ""
    error = UsageError(f"{message[:1].lower()}{message[1:]}{hint}")
    error.param = getattr(getattr(problem, "param", None), "name", None)  # type: ignore[attr-defined]
    return error
