"""`aimass data`: looking at data before it is trained on."""

from __future__ import annotations

from typing import Any

import typer

from aimass.cli.options import AsJson, Missing, Schema, Source, Target, read_schema
from aimass.cli.output import number, print_json, print_table

app = typer.Typer(help="Look at data before it is trained on.", no_args_is_help=True)


@app.command(epilog="Example: aimass data describe customers.csv --target churn")
def describe(data: Source, target: Target = None, schema: Schema = None, missing: Missing = None, json: AsJson = False) -> None:
    """Show what each column holds, and with a target how the rows would be split."""
    from aimass.data import describe as describe_data

    description = describe_data(data, target, schema=read_schema(schema), missing=missing or ())
    if json:
        return print_json(description)
    _print_description(description)


def _print_description(description: dict[str, Any]) -> None:
    typer.echo(f"{description['name']}: {description['rows']:,} rows, {len(description['columns']):,} columns")
    if description["target"] is not None:
        split = ", ".join(f"{rows:,} {part}" for part, rows in description["split"].items())
        typer.echo(f"target {description['target']!r}: {description['task']}; split: {split}")
    if description["classes"]:
        typer.echo("classes: " + ", ".join(f"{name} ({rows:,})" for name, rows in description["classes"].items()))
    for note in description["notes"]:
        typer.echo(f"note: {note}")
    typer.echo()
    header = ("column", "kind", "missing", "distinct", "min", "mean", "max", "notes")
    rows = [
        (
            name,
            found["kind"],
            found["missing"],
            found["distinct"],
            *[number(found.get(key)) for key in ("min", "mean", "max")],
            "; ".join(found["notes"]),
        )
        for name, found in description["columns"].items()
    ]
    print_table(header, rows, right=header[2:7])
