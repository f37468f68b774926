"""`aimass budgets`: what a project may spend. They want an admin key."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from aimass.cli.options import AsJson
from aimass.cli.output import moment, print_json

app = typer.Typer(help="What a project may spend.", no_args_is_help=True)
Project = Annotated[str, typer.Argument(metavar="PROJECT", help="A project's name or id.")]


class Period(Enum):
    """After which a budget begins anew."""

    day = "day"
    month = "month"
    total = "total"


@app.command("set", epilog="Example: aimass budgets set shop 12.50 --period month")
def set_budget(
    project: Project,
    limit: Annotated[str, typer.Argument(metavar="USD", help="Dollars, such as 12.50.")],
    period: Annotated[Period, typer.Option(help="A day or a month (UTC) after which it begins anew, or all in total.")] = Period.month,
    json: AsJson = False,
) -> None:
    """Limit what a project may spend. It holds within a second."""
    from aimass.client import Client

    with Client() as client:
        found = client.budgets.set(project, limit, period=period.value)
    return print_json(found) if json else _show(found)


@app.command(epilog="Example: aimass budgets show shop")
def show(project: Project, json: AsJson = False) -> None:
    """Show a project's budget, and what is left of it."""
    from aimass.client import Client

    with Client() as client:
        found = client.budgets.get(project)
    return print_json(found) if json else _show(found)


@app.command(epilog="Example: aimass budgets remove shop")
def remove(project: Project, json: AsJson = False) -> None:
    """Let a project spend without a limit."""
    from aimass.client import Client

    with Client() as client:
        client.budgets.delete(project)
    return print_json({"project": project, "deleted": True}) if json else typer.echo(f"{project} has no budget any more")


def _show(budget: dict[str, Any]) -> None:
    when = "in total" if budget["period"] == "total" else f"a {budget['period']}"
    typer.echo(f"{budget['limit_usd']} USD {when}: {budget['spent_usd']} spent, {budget['reserved_usd']} put aside")
    anew = f", until it begins anew at {moment(budget['resets_at'])}" if budget["resets_at"] else ""
    typer.echo(f"{budget['available_usd']} left{anew}")
