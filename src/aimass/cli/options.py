"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aimass.core.errors import UsageError

DATA = "Data"

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Source = Annotated[
    str,
    typer.Argument(metavar="DATA", help="A CSV file, images, a text, or one of digits, iris, wine, breast_cancer, diabetes, python_docs."),
]
Target = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column to predict.", rich_help_panel=DATA)]
Schema = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=KIND", help="A column's kind: numeric, categorical, boolean or ignored. May be repeated.", rich_help_panel=DATA
    ),
]
Missing = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="A spelling of 'missing' beyond the usual ones. May be repeated.", rich_help_panel=DATA),
]


def read_schema(pairs: list[str] | None) -> dict[str, str]:
    """Column and kind out of `COLUMN=KIND`.

    >>> read_schema(["zip=categorical", "a=b=ignored"])
    {'zip': 'categorical', 'a=b': 'ignored'}
    """
    schema = {}
    for pair in pairs or ():
        column, equals, kind = pair.rpartition("=")
        if not equals or not column:
            raise UsageError(f"--schema {pair!r} has no column and kind; write it like --schema zip=categorical")
        schema[column] = kind
    return schema


def read_split(text: str) -> tuple[float, ...]:
    """The shares out of `0.8,0.1,0.1`.

    >>> read_split("0.8,0.1,0.1")
    (0.8, 0.1, 0.1)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--split {text!r} is not three shares; write them like --split 0.8,0.1,0.1") from None


def check_plot(plot: Path | None) -> None:
    """Refuse, before the training and not after it, what cannot be drawn.

    Raises:
        UsageError: it is a folder, or ends in another format.
    """
    if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {plot} cannot be drawn; end the name in .png, .svg or .pdf")
    if plot is not None and plot.is_dir():
        raise UsageError(f"--plot {plot} is a folder; name a file")


Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]
Start = Annotated[str | None, typer.Option(metavar="DAY", help="From this day on (2026-01-31, UTC); by default this month's first.")]
End = Annotated[str | None, typer.Option(metavar="DAY", help="Until the beginning of this day (UTC); by default until now.")]


def read_day(text: str | None) -> float | None:
    """A day, or a moment in it, as Unix seconds; a number is taken as such.

    >>> read_day("2026-01-31"), read_day("1769817600"), read_day(None)
    (1769817600.0, 1769817600.0, None)
    """
    from datetime import UTC, datetime

    if text is None:
        return None
    try:
        if text.isdecimal():
            return float(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no day; write it like 2026-01-31") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
