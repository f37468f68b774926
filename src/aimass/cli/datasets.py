"""`aimass datasets`: files at the service, as data to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aimass.cli.options import AsJson, Limit
from aimass.cli.output import first_of, moment, print_json, print_list, print_more, print_table
from aimass.cli.training_options import COLUMNS, data_options, given_of, taking
from aimass.core.errors import NotFound

if TYPE_CHECKING:
    from aimass.client import Client
    from aimass.client.answers import Dataset

app = typer.Typer(help="Files at the service, as data to train on.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="DATASET", help="A data set's id.")]
Name = Annotated[str | None, typer.Option(help="What to call it; by default as the file.", show_default=False)]
SOURCE = "A file here, a file's id, or a sample: digits, iris, wine, breast_cancer, diabetes, python_docs."


@app.command(epilog="Example: aimass datasets create customers.csv --target churn")
@taking(COLUMNS, before="json")
def create(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE)],
    name: Name = None,
    json: AsJson = False,
) -> None:
    """Make a data set. A file that is here is sent first."""
    from aimass.client import Client

    given = given_of(context)
    with Client() as client:
        dataset = make_dataset(client, source, given, quiet=json)
    if json:
        return print_json(dataset.raw)
    _show(dataset)
    typer.echo(f"next: aimass jobs create {dataset.id} --workers 2 --follow")


def make_dataset(client: Client, source: str, given: dict[str, Any], *, quiet: bool) -> Dataset:
    """A data set of whatever people give: a file here, a file's id, or a sample.

    Args:
        given: `target`, `name` and the options of data that were on the command line.
        quiet: whether nothing is shown while a file is sent.

    Raises:
        NotFound: it is none of these.
    """
    from pathlib import Path

    from aimass.cli.files import transfer_bar
    from aimass.data.samples import SAMPLES

    options = {"target": given.get("target"), "name": given.get("name"), **data_options(given)}
    path = Path(source).expanduser()
    if path.exists():
        with transfer_bar(f"uploading {path.name}", is_shown=not quiet) as progress:
            file = client.files.upload(path, progress=progress)
        if not quiet:
            typer.echo(f"uploaded {path} as {file.id}", err=True)
        return client.datasets.create(file=file.id, **options)
    if source.startswith("file-"):
        return client.datasets.create(file=source, **options)
    if source in SAMPLES:
        return client.datasets.create(sample=source, **options)
    raise NotFound(f"there is no file {source!r} here; give a path, a file's id (file-...), or one of: {', '.join(SAMPLES)}")


@app.command("list", epilog="Example: aimass datasets list")
def list_datasets(limit: Limit = 20, json: AsJson = False) -> None:
    """List the data sets, the newest first."""
    from aimass.client import Client

    with Client() as client:
        datasets, has_more = first_of(client.datasets.list(), limit)
    if json:
        return print_list([dataset.raw for dataset in datasets], has_more=has_more)
    if not datasets:
        return typer.echo("there are no data sets yet; make one with: aimass datasets create customers.csv --target COLUMN")
    rows = [(found.id, found.name, found.target, found.task, f"{found.rows:,}", moment(found.created_at)) for found in datasets]
    print_table(("data set", "name", "target", "task", "rows", "created"), rows, right=("rows",))
    print_more(has_more, limit)


@app.command(epilog="Example: aimass datasets show ds-01k9...")
def show(dataset: Id, json: AsJson = False) -> None:
    """Show one data set: its target, its columns, its split."""
    from aimass.client import Client

    with Client() as client:
        found = client.datasets.get(dataset)
    return print_json(found.raw) if json else _show(found)


def _show(dataset: Dataset) -> None:
    split = ", ".join(f"{rows:,} {part}" for part, rows in (dataset.split or {}).items())
    columns = dataset.columns if isinstance(dataset.columns, dict) else {}
    kinds: dict[str, int] = {}
    for column in columns.values():
        kinds[column.get("kind", "?")] = kinds.get(column.get("kind", "?"), 0) + 1
    facts = {
        "data set": dataset.id,
        "name": dataset.name,
        "from": dataset.file or dataset.sample,
        "target": f"{dataset.target}: {dataset.task}",
        "rows": f"{dataset.rows:,}" + (f" ({split})" if split else ""),
        "columns": f"{len(columns):,}: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items()),
    }
    for name, value in facts.items():
        typer.echo(f"{name:<10}{value}")
    for note in dataset.raw.get("notes") or []:
        typer.echo(f"note      {note}")


@app.command(epilog="Example: aimass datasets delete ds-01k9...")
def delete(dataset: Id, json: AsJson = False) -> None:
    """Delete a data set that no job was given."""
    from aimass.client import Client

    with Client() as client:
        client.datasets.delete(dataset)
    return print_json({"id": dataset, "deleted": True}) if json else typer.echo(f"{dataset} is deleted")
