"""`aimass models`: the service's registry of models and their versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aimass.cli.options import AsJson, Limit
from aimass.cli.output import figures, first_of, moment, print_json, print_list, print_more, print_table, size

if TYPE_CHECKING:
    from aimass.client.answers import Model, Version

app = typer.Typer(help="Models and their versions, in the service's registry.", no_args_is_help=True)
_SOURCES = ("file", "dataset", "job", "start_from")
Name = Annotated[str, typer.Argument(metavar="MODEL", help="A model's name.")]
Which = Annotated[
    str | None, typer.Option("--version", metavar="N", help="A version's number, or an alias; by default the newest.", show_default=False)
]


@app.command("list", epilog="Example: aimass models list")
def list_models(limit: Limit = 20, json: AsJson = False) -> None:
    """List the models, the newest first."""
    from aimass.client import Client

    with Client() as client:
        models, has_more = first_of(client.models.list(), limit)
    if json:
        return print_list([model.raw for model in models], has_more=has_more)
    if not models:
        return typer.echo("there are no models yet; train one with `aimass jobs create`, or send one with `aimass models upload`")
    rows = [(model.name, model.newest, _aliases(model), moment(model.created_at)) for model in models]
    print_table(("model", "newest", "aliases", "created"), rows, right=("newest",))
    print_more(has_more, limit)


@app.command(epilog="Example: aimass models show churn --version production")
def show(model: Name, version: Which = None, json: AsJson = False) -> None:
    """Show a version: what it was made from, how good it is, what it takes."""
    from aimass.client import Client

    with Client() as client:
        found, kept = client.models.version(model, version), client.models.get(model)
    if json:
        return print_json(found.raw)
    _show(found, kept)


def _show(version: Version, model: Model) -> None:
    signature = version.signature
    inputs = signature.get("inputs") or []
    facts = {
        "model": f"{version.model}, version {version.version} of {model.newest}",
        "id": version.id,
        "aliases": ", ".join(version.aliases),
        "created": moment(version.created_at),
        "size": f"{size(version.bytes)} in {len(version.files)} files",
        "takes": f"{len(inputs)} columns: " + _short([entry["name"] for entry in inputs]),
        "answers": f"{signature.get('target')}: {signature.get('task')}",
        "classes": _short([str(name) for name in signature.get("classes") or []]),
        "comes from": ", ".join(str(version.lineage[name]) for name in _SOURCES if version.lineage.get(name)),
    }
    for name, value in facts.items():
        if value:
            typer.echo(f"{name:<14}{value}")
    for name, value in _card(version.card).items():
        typer.echo(f"{name:<14}{value}")
    typer.echo(f"{'next':<14}aimass deploy {version.model}   or   aimass models download {version.model} FOLDER")


def _card(card: dict[str, Any]) -> dict[str, str]:
    """What a card says that a person looks for; `--json` has all of it."""
    config, data, metrics = (card.get(name) or {} for name in ("config", "data", "metrics"))
    rows = ", ".join(f"{count:,} {part}" for part, count in (data.get("rows") or {}).items())
    names = [str((config.get(name) or {}).get("name", "")) for name in ("model", "strategy", "optimizer")]
    lines = {
        "trained with": ", ".join([*filter(None, names), *([f"{config['workers']} workers"] if "workers" in config else [])]),
        "rows": rows,
        "validation": figures(metrics.get("validation") or {}),
        "test": figures(metrics.get("test") or {}),
        "took": f"{card['duration_s']:.1f} s" if card.get("duration_s") else "",
    }
    return {name: text for name, text in lines.items() if text}


def _short(texts: list[str], most: int = 8) -> str:
    rest = f", and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + rest


@app.command(epilog="Example: aimass models versions churn")
def versions(model: Name, limit: Limit = 20, json: AsJson = False) -> None:
    """List a model's versions, the newest first."""
    from aimass.client import Client

    with Client() as client:
        found, has_more = first_of(client.models.versions(model), limit)
    if json:
        return print_list([version.raw for version in found], has_more=has_more)
    rows = [
        (version.version, ", ".join(version.aliases), size(version.bytes), _origin(version), moment(version.created_at))
        for version in found
    ]
    print_table(("version", "aliases", "size", "from", "created"), rows, right=("version", "size"))
    print_more(has_more, limit)


def _origin(version: Version) -> str:
    job = version.lineage.get("job")
    return str(job) if job else "upload"


def _aliases(model: Model) -> str:
    return ", ".join(f"{alias} → {number}" for alias, number in model.aliases.items())


@app.command(epilog="Example: aimass models alias churn production 3")
def alias(
    model: Name,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as production.")],
    version: Annotated[int | None, typer.Argument(metavar="N", help="The version that it is to stand for.", show_default=False)] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Take the alias away.")] = False,
    json: AsJson = False,
) -> None:
    """Let an alias stand for a version, from this moment; or take it away."""
    from aimass.client import Client
    from aimass.core.errors import UsageError

    if (version is None) != delete:
        raise UsageError("give the version that the alias is to stand for, such as `aimass models alias churn production 3`, or --delete")
    with Client() as client:
        if version is None:
            client.models.delete_alias(model, alias)
        else:
            client.models.set_alias(model, alias, version)
    if json:
        return print_json({"model": model, "alias": alias, "version": version})
    typer.echo(f"{alias} of {model} is gone" if version is None else f"{alias} of {model} is version {version}")


@app.command(epilog="Example: aimass models upload churn ./churn")
def upload(
    model: Name,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `aimass train --out` or `Model.save` wrote.")],
    json: AsJson = False,
) -> None:
    """Keep a model that was trained here as the next version."""
    from aimass.cli.files import transfer_bar
    from aimass.client import Client

    with Client() as client, transfer_bar(f"uploading {folder.name}", is_shown=not json) as progress:
        version = client.models.upload(model, folder, progress=progress)
    if json:
        return print_json(version.raw)
    typer.echo(f"version {version.version} of {version.model}, {size(version.bytes)}")
    typer.echo(f"next: aimass deploy {version.model}")


@app.command(epilog="Example: aimass models download churn ./churn --version 3")
def download(
    model: Name,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; `aimass predict FOLDER` and `aimass.load` take it.")],
    version: Which = None,
    json: AsJson = False,
) -> None:
    """Write a version as a folder, whole or not at all."""
    from aimass.client import Client

    with Client() as client:
        written = client.models.download(model, folder, version=version)
    return print_json({"model": model, "path": str(written)}) if json else typer.echo(f"{model} is in {written}")
