"""`aimass files`: files at the service."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aimass.cli.options import AsJson, Limit
from aimass.cli.output import first_of, moment, print_json, print_list, print_more, print_table, size

if TYPE_CHECKING:
    from aimass.client.call import Progress

app = typer.Typer(help="Files at the service.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="FILE", help="A file's id.")]


@app.command(epilog="Example: aimass files upload customers.csv")
def upload(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file.")],
    purpose: Annotated[str, typer.Option(help="What it is for.")] = "dataset",
    json: AsJson = False,
) -> None:
    """Send a file to the service."""
    from aimass.client import Client

    with Client() as client, transfer_bar(f"uploading {path.name}", is_shown=not json) as progress:
        file = client.files.upload(path, purpose=purpose, progress=progress)
    if json:
        return print_json(file.raw)
    typer.echo(f"{file.id}  {file.filename}, {size(file.bytes)}")
    typer.echo(f"next: aimass datasets create {file.id} --target COLUMN")


@app.command("list", epilog="Example: aimass files list --limit 5")
def list_files(limit: Limit = 20, json: AsJson = False) -> None:
    """List the files, the newest first."""
    from aimass.client import Client

    with Client() as client:
        files, has_more = first_of(client.files.list(), limit)
    if json:
        return print_list([file.raw for file in files], has_more=has_more)
    if not files:
        return typer.echo("there are no files yet; send one with: aimass files upload PATH")
    rows = [(file.id, file.filename, size(file.bytes), file.purpose, moment(file.created_at)) for file in files]
    print_table(("file", "name", "size", "purpose", "created"), rows, right=("size",))
    print_more(has_more, limit)


@app.command(epilog="Example: aimass files show file-01k9...")
def show(file: Id, json: AsJson = False) -> None:
    """Show one file's facts."""
    from aimass.client import Client

    with Client() as client:
        found = client.files.get(file)
    if json:
        return print_json(found.raw)
    for name, value in (
        ("file", found.id),
        ("name", found.filename),
        ("size", f"{size(found.bytes)} ({found.bytes:,} bytes)"),
        ("purpose", found.purpose),
        ("sha256", found.sha256),
        ("created", moment(found.created_at)),
    ):
        typer.echo(f"{name:<10}{value}")


@app.command(epilog="Example: aimass files download file-01k9... customers.csv")
def download(
    file: Id,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="Where to; by default its own name, here.", show_default=False)
    ] = None,
    json: AsJson = False,
) -> None:
    """Write what a file holds, whole or not at all."""
    from aimass.client import Client

    with Client() as client:
        into = path or Path(Path(client.files.get(file).filename).name or file)
        with transfer_bar(f"downloading {into.name}", is_shown=not json) as progress:
            written = client.files.download(file, into, progress=progress)
    return print_json({"id": file, "path": str(written)}) if json else typer.echo(f"{file} is in {written}")


@app.command(epilog="Example: aimass files delete file-01k9...")
def delete(file: Id, json: AsJson = False) -> None:
    """Delete a file that no data set is made of."""
    from aimass.client import Client

    with Client() as client:
        client.files.delete(file)
    return print_json({"id": file, "deleted": True}) if json else typer.echo(f"{file} is deleted")


@contextmanager
def transfer_bar(what: str, *, is_shown: bool) -> Iterator[Progress | None]:
    """A bar for bytes that go over the network; in a terminal alone.

    Args:
        what: stands before the bar.
        is_shown: False shows none anywhere.
    """
    if not is_shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=Console(file=sys.stderr), expand=True, transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda gone, of: bars.update(task, completed=gone, total=of)
