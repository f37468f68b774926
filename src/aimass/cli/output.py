"""What commands print: JSON for programs, and tables and lines for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

from typer import echo

from aimass.core.errors import AimassError, Cancelled

if TYPE_CHECKING:
    from aimass.data.dataset import Dataset

T = TypeVar("T")


def print_json(value: Any) -> None:
    """One JSON document on standard output. Where that is no UTF-8, what is not ASCII is escaped as JSON escapes it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    echo(as_json(value, in_ascii=not encoding.lower().replace("-", "").startswith("utf8")))


def as_json(value: Any, *, in_ascii: bool = False) -> str:
    """A JSON document. Keys that are no text, such as the classes 0 to 9, become text; NaN and infinity, which JSON lacks, null.

    Args:
        value: what it says.
        in_ascii: whether every other character is escaped.

    >>> as_json({"loss": float("nan")}), as_json("é", in_ascii=True)
    ('{\\n  "loss": null\\n}', '"\\\\u00e9"')
    """
    return json.dumps(_finite(value), indent=2, ensure_ascii=in_ascii, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def print_error(error: AimassError, *, as_json: bool) -> None:
    """One line on standard error; for programs an object on standard output too. A stop that was asked for is no error."""
    message = " ".join(str(error).split())
    if as_json:
        parts = {"message": message, "type": type(error).__name__, "code": error.code, "param": error.param}
        print_json({"error": parts})
    echo(message if isinstance(error, Cancelled) else f"error: {message}", err=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Columns under a header. In a terminal they fit its width; in a pipe nothing is cut.

    Args:
        header: the columns' names.
        rows: a value for each column; None is left blank.
        right: the columns that line up on the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text("" if value is None else str(value)) for value in row])
    Console(width=None if sys.stdout.isatty() else 10_000).print(table, highlight=False)


def print_data(dataset: Dataset) -> None:
    """What a run is about to learn from, on standard error, and what was noted while it was read."""
    for line in (repr(dataset), *(f"note: {note}" for note in dataset.notes)):
        echo(line, err=True)


def number(value: float | None) -> str:
    """A number in few digits.

    >>> number(0.977777), number(41.0), number(1234567.0), number(None)
    ('0.9778', '41', '1.235e+06', '')
    """
    return "" if value is None else f"{value:.4g}"


def figures(metrics: dict[str, float]) -> str:
    """Metrics in a line.

    >>> figures({"loss": 0.062, "accuracy": 0.9777777})
    'loss 0.062, accuracy 0.9778'
    """
    return ", ".join(f"{name} {number(value)}" for name, value in metrics.items())


def print_list(entries: Sequence[dict[str, Any]], *, has_more: bool) -> None:
    """A list as the service gives them, for programs."""
    print_json({"object": "list", "data": list(entries), "has_more": has_more})


def moment(seconds: float | None, *, exact: bool = False) -> str:
    """A time for people, where they are; empty where there is none."""
    if not seconds:
        return ""
    return time.strftime("%H:%M:%S" if exact else "%Y-%m-%d %H:%M", time.localtime(seconds))


def size(num_bytes: float | None) -> str:
    """Bytes for people.

    >>> size(512), size(41_300), size(2_500_000_000), size(None)
    ('512 B', '41.3 kB', '2.5 GB', '')
    """
    if num_bytes is None:
        return ""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def first_of(entries: Iterator[T], limit: int) -> tuple[list[T], bool]:
    """The first entries of a list that pages by itself, and whether there are more.

    >>> first_of(iter("abc"), 2)
    (['a', 'b'], True)
    """
    found = list(islice(entries, limit + 1))
    return found[:limit], len(found) > limit


def print_more(has_more: bool, limit: int) -> None:
    """Say below a table that it does not hold everything."""
    if has_more:
        echo(f"there are more; --limit {limit * 5} shows more of them")
