"""`aimass usage`: what was used, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aimass.cli.options import AsJson, End, Start, read_day
from aimass.cli.output import print_json, print_table

app = typer.Typer(help="What was used, and what it costs.")


@app.callback(invoke_without_command=True, epilog="Example: aimass usage --start 2026-01-01")
def usage(context: typer.Context, start: Start = None, end: End = None, json: AsJson = False) -> None:
    """Show what the project used, by item; `aimass usage invoice` makes a bill of it."""
    if context.invoked_subcommand is not None:
        return
    from aimass.client import Client

    with Client() as client:
        found = client.usage(start=read_day(start), end=read_day(end))
    if json:
        return print_json(found)
    if not found["items"]:
        return typer.echo("nothing was used in this time; see what costs what with: aimass usage prices")
    rows = [(line["item"], f"{line['events']:,}", f"{line['quantity']:,}", line["unit"], line["amount_usd"]) for line in found["items"]]
    print_table(("item", "events", "quantity", "unit", "USD"), [*rows, ("total", None, None, None, found["amount_usd"])], right=_RIGHT)
    doubtful = sum(line.get("in_doubt") or 0 for line in found["items"])
    if doubtful:
        typer.echo(f"{doubtful:,} of these events are in doubt: the service was killed before it knew whether the answer arrived")


_RIGHT = ("events", "quantity", "USD")


@app.command(epilog="Example: aimass usage invoice --start 2026-01-01 --end 2026-02-01 --csv january.csv")
def invoice(
    start: Start = None,
    end: End = None,
    project: Annotated[str | None, typer.Option(help="With an admin key: another project's.", show_default=False)] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as CSV.", show_default=False)] = None,
    json: AsJson = False,
) -> None:
    """Show the project's invoice, by default this month's until now."""
    from aimass.client import Client
    from aimass.core.files import write_whole

    period: dict[str, Any] = {"start": read_day(start), "end": read_day(end), "project": project}
    with Client() as client:
        if csv is not None:
            write_whole(csv, client.invoice_csv(**period))
            return print_json({"csv": str(csv)}) if json else typer.echo(f"the invoice is in {csv}")
        found = client.invoice(**period)
    if json:
        return print_json(found)
    _show(found)


def _show(invoice: dict[str, Any]) -> None:
    typer.echo(f"invoice {invoice['id']} of {invoice['project']}, {invoice['period']}" + ("" if invoice.get("final") else ", as it stands"))
    typer.echo()
    rows = [
        (
            _what(line),
            line["model"],
            line["version"] or None,
            f"{line['quantity']:,}",
            line["unit"],
            line["price_usd_per_million"],
            line["amount_usd"],
        )
        for line in invoice["lines"]
    ]
    header = ("item", "model", "version", "quantity", "unit", "USD per million", "USD")
    total = ("total", None, None, None, None, None, invoice["subtotal_usd"])
    print_table(header, [*rows, total], right=("version", "quantity", "USD per million", "USD"))
    doubtful = invoice["in_doubt"]["num_events"]
    if doubtful:
        typer.echo(f"\n{doubtful:,} events are in doubt: {invoice['in_doubt']['events']} lists them")


def _what(line: dict[str, Any]) -> str:
    return line["item"] if line.get("type", "charge") == "charge" else f"{line['type']}: {line['item']}"


@app.command(epilog="Example: aimass usage prices")
def prices(json: AsJson = False) -> None:
    """Show what each item costs."""
    from aimass.client import Client

    with Client() as client:
        found = client.prices()
    if json:
        return print_json(found)
    entries = found.get("data") or []
    rows = [(price.get("item"), price.get("unit"), price.get("usd_per_million") or price.get("price_usd_per_million")) for price in entries]
    print_table(("item", "unit", "USD per million"), rows, right=("USD per million",))
