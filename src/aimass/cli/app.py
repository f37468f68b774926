"""The commands put together."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from aimass.cli import budgets, data, datasets, files, jobs, keys, models, runs, usage
from aimass.cli import deploy as deployments
from aimass.cli.compare import compare
from aimass.cli.demo import demo
from aimass.cli.deploy import deploy, engines
from aimass.cli.evaluate import evaluate
from aimass.cli.generate import generate
from aimass.cli.help import settings, with_most_used
from aimass.cli.login import login
from aimass.cli.predict import predict
from aimass.cli.train import train
from aimass.cli.up import up
from aimass.core.errors import UsageError

UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]
"""The base of what typer raises about a command line that it cannot read."""

SERVICE = "At a service"

app = typer.Typer(
    name="aimass",
    help="Data in, a trained, deployed and metered model out: here from one line, or at a service.",
    epilog="Start with `aimass demo`; with `aimass train customers.csv --target churn --workers 2`; or with `aimass up`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(
    cls=with_most_used("target", "model", "workers", "strategy", "epochs", "optimizer", "lr", "batch_size", "out", "plot"),
    epilog="Example: aimass train customers.csv --target churn --workers 2 --lr 0.01 --out churn",
)(train)
app.command(
    cls=with_most_used("strategies", "workers", "target", "model", "epochs", "target_loss", "slow", "kill", "link", "plot"),
    epilog="Example: aimass compare digits --strategies async_sgd,parameter_server:staleness=3 --workers 2 --slow 1:3x --plot compare.png",
)(compare)
app.command(epilog="Example: aimass predict churn new_customers.csv --out predictions.csv")(predict)
app.command(epilog="Example: aimass generate poet 'Once upon a time' --max-bytes 300 --temperature 0.7")(generate)
app.command(epilog="Example: aimass evaluate churn last_month.csv")(evaluate)
app.command(epilog="Example: aimass settings optimizer")(settings)
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.command()(demo)
app.command(rich_help_panel=SERVICE, epilog="Example: aimass up --port 8321 --engines 2")(up)
app.command(rich_help_panel=SERVICE, epilog="Example: aimass login https://mass.example.org")(login)
app.add_typer(files.app, name="files", rich_help_panel=SERVICE)
app.add_typer(datasets.app, name="datasets", rich_help_panel=SERVICE)
app.add_typer(jobs.app, name="jobs", rich_help_panel=SERVICE)
app.add_typer(models.app, name="models", rich_help_panel=SERVICE)
app.command(rich_help_panel=SERVICE, epilog="Example: aimass deploy churn --version 3")(deploy)
app.add_typer(deployments.app, name="deployments", rich_help_panel=SERVICE)
app.command(rich_help_panel=SERVICE, epilog="Example: aimass engines --history")(engines)
app.add_typer(usage.app, name="usage", rich_help_panel=SERVICE)
app.add_typer(budgets.app, name="budgets", rich_help_panel=SERVICE)
app.add_typer(keys.app, name="keys", rich_help_panel=SERVICE)
app.add_typer(keys.projects, name="projects", rich_help_panel=SERVICE)


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
    message = (
        re.sub(r"\s+", " ", problem.format_message())
        .replace("Value error, ", "")
        .strip()
        .rstrip(".")
        .replace(". Did you mean", "; did you mean")
    )
    context = getattr(problem, "ctx", None)
    hint = f"`{context.command_path} --help` shows what there is" if context is not None else ""
    if re.search(r"(?i)no such option: -\.?\d", message):
        message += "; if a number is meant, it cannot be below 0 here"
    if setting := re.search(r"extra argument.*\((\w[\w.-]*)=(\S+)\)", message):
        hint = f"write a setting like --{setting[1]} {setting[2]}"
    error = UsageError(f"{message[:1].lower()}{message[1:]}{' ' if message.endswith('?') else '; '}{hint}".rstrip("; "))
    error.param = getattr(getattr(problem, "param", None), "name", None)
    return error
