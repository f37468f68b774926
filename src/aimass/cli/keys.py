"""`aimass keys` and `aimass projects`: who may do what. Both want an admin key."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from aimass.cli.options import AsJson, Limit
from aimass.cli.output import first_of, moment, print_json, print_list, print_more, print_table

app = typer.Typer(help="Keys to the service.", no_args_is_help=True)
projects = typer.Typer(help="Projects, to which everything else belongs.", no_args_is_help=True)


class Role(Enum):
    """What a key may do."""

    inference = "inference"
    member = "member"
    admin = "admin"


@app.command(epilog="Example: aimass keys create website --role inference")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    role: Annotated[Role, typer.Option(help="inference predicts; member does all of a project's work; admin everything.")] = Role.member,
    project: Annotated[str | None, typer.Option(help="Its project; by default that of your own key.", show_default=False)] = None,
    json: AsJson = False,
) -> None:
    """Make a key. It is shown this once."""
    from aimass.client import Client

    with Client() as client:
        made = client.keys.create(name, role=role.value, project=project)
    if json:
        return print_json(made.raw)
    typer.echo(f"{made.id}  {made.name}, {made.role}")
    if made.key:
        typer.echo(f"the key, shown this once: {made.key}")
    else:
        typer.echo(f"its secret was lost on the way; revoke it with `aimass keys revoke {made.id}`, and make another")


@app.command("list", epilog="Example: aimass keys list")
def list_keys(limit: Limit = 20, json: AsJson = False) -> None:
    """List the keys, the newest first, without their secrets."""
    from aimass.client import Client

    with Client() as client:
        found, has_more = first_of(client.keys.list(), limit)
    if json:
        return print_list([key.raw for key in found], has_more=has_more)
    rows = [(key.id, key.name, key.role, key.project, moment(key.created_at), moment(key.revoked_at)) for key in found]
    print_table(("key", "name", "role", "project", "created", "revoked"), rows)
    print_more(has_more, limit)


@app.command(epilog="Example: aimass keys revoke 01k9...")
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key's id, as `aimass keys list` shows it.")],
    json: AsJson = False,
) -> None:
    """End a key. Within a second no service takes it any more."""
    from aimass.client import Client

    key = key.removeprefix("am_").partition("_")[0]  # whoever pastes the whole key means this one
    with Client() as client:
        client.keys.revoke(key)
    return print_json({"id": key, "revoked": True}) if json else typer.echo(f"{key} is revoked")


@projects.command("create", epilog="Example: aimass projects create shop")
def create_project(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    json: AsJson = False,
) -> None:
    """Make a project."""
    from aimass.client import Client

    with Client() as client:
        made = client.projects.create(name)
    if json:
        return print_json(made.raw)
    typer.echo(f"{made.id}  {made.name}")
    typer.echo(f"next: aimass keys create NAME --project {made.name}")


@projects.command("list", epilog="Example: aimass projects list")
def list_projects(limit: Limit = 20, json: AsJson = False) -> None:
    """List the projects, the newest first."""
    from aimass.client import Client

    with Client() as client:
        found, has_more = first_of(client.projects.list(), limit)
    if json:
        return print_list([project.raw for project in found], has_more=has_more)
    print_table(("project", "name", "created"), [(project.id, project.name, moment(project.created_at)) for project in found])
    print_more(has_more, limit)
