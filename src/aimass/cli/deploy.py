"""`aimass deploy`, `aimass deployments` and `aimass engines`: what answers predictions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aimass.cli.options import AsJson, Limit
from aimass.cli.output import first_of, moment, number, print_json, print_list, print_more, print_table, size
from aimass.core.errors import NotFound, UsageError

app = typer.Typer(help="Versions under names that answer requests.", no_args_is_help=True)


def deploy(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model of the registry.")],
    version: Annotated[int | None, typer.Option(metavar="N", help="A version's number; by default the newest.", show_default=False)] = None,
    alias: Annotated[str | None, typer.Option(help="An alias, in place of a number.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="What requests ask for; by default the model's name.", show_default=False)] = None,
    latency_ms: Annotated[
        float | None, typer.Option(min=0, help="The time in which requests are to be answered.", show_default=False)
    ] = None,
    max_batch: Annotated[int | None, typer.Option(min=1, help="The most rows that are answered at once.", show_default=False)] = None,
    json: AsJson = False,
) -> None:
    """Let a version answer requests. A name that answers already moves to it in one step, and no request is lost."""
    from aimass.client import Client

    if version is not None and alias is not None:
        raise UsageError("--version and --alias both say which version; give one of them")
    settings: dict[str, Any] = {"latency_ms": latency_ms, "max_batch": max_batch}
    settings = {key: value for key, value in settings.items() if value is not None}
    with Client() as client:
        made = client.deployments.create(model=model, version=version, alias=alias, name=name, settings=settings or None)
        url = client.url
    if json:
        return print_json(made.raw)
    typer.echo(f"{made.name} answers with version {made.version} of {made.model}   (it is {made.status})")
    typer.echo(f"next: aimass predict {made.name} DATA   or   POST {url}/v1/models/{made.name}:predict")


@app.command("list", epilog="Example: aimass deployments list")
def list_deployments(limit: Limit = 20, json: AsJson = False) -> None:
    """List what is deployed."""
    from aimass.client import Client

    with Client() as client:
        found, has_more = first_of(client.deployments.list(), limit)
    if json:
        return print_list([deployment.raw for deployment in found], has_more=has_more)
    if not found:
        return typer.echo("nothing is deployed yet; deploy a model with: aimass deploy MODEL")
    rows = [(made.name, made.model, made.version, made.status, made.id, moment(made.updated_at or made.created_at)) for made in found]
    print_table(("name", "model", "version", "status", "deployment", "changed"), rows, right=("version",))
    print_more(has_more, limit)


@app.command(epilog="Example: aimass deployments delete churn")
def delete(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Its name or id.")],
    json: AsJson = False,
) -> None:
    """Let a name answer no more. The version stays in the registry."""
    from aimass.client import Client

    with Client() as client:
        found = next((made for made in client.deployments.list() if deployment in (made.name, made.id)), None)
        if found is None:
            raise NotFound(f"there is no deployment {deployment!r}; `aimass deployments list` shows those there are")
        client.deployments.delete(found.id)
    return print_json({"id": found.id, "deleted": True}) if json else typer.echo(f"{found.name} answers no more")


def engines(
    history: Annotated[bool, typer.Option("--history", help="Show what happened to them, too.")] = False,
    json: AsJson = False,
) -> None:
    """Show the processes that answer predictions: their state, load, latency and memory."""
    from aimass.client import Client

    with Client() as client:
        found = client.engines()
    if json:
        return print_list([engine.raw for engine in found], has_more=False)
    if not found:
        return typer.echo("no engine runs; the first request, or deployment, starts one")
    header = ("engine", "state", "pid", "models", "waiting rows", "p50 ms", "p99 ms", "requests", "memory", "started")
    rows = []
    for engine in found:
        names = ", ".join(f"{model.get('name')} v{model.get('version')}" for model in engine.models)
        latency = [number(engine.latency_ms.get(share)) for share in ("p50", "p99")]
        plain = (engine.id, engine.state, engine.pid, names, engine.load.get("queued_rows"), *latency)
        rows.append((*plain, f"{engine.requests:,}", size(engine.memory_bytes), moment(engine.started_at)))
    print_table(header, rows, right=header[4:9])
    for engine in found if history else []:
        typer.echo(f"\n{engine.id}")
        for entry in engine.history:
            data = ", ".join(f"{name} {value}" for name, value in (entry.get("data") or {}).items())
            typer.echo(f"  {moment(entry.get('time'), exact=True)}  {entry.get('type'):<12} {data}")
