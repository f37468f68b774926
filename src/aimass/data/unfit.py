"""What a row that the encoder cannot take is told: what is absent, and what its column wants."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from aimass.core.errors import DataError
from aimass.data.schema import listed

_UNKNOWN = ", or None (in JSON null) where it is not known"
_WANTED = {
    "numeric": f"give a number{_UNKNOWN}",
    "boolean": f"give true or false{_UNKNOWN}",
    "categorical": f"give a text or a number{_UNKNOWN}",
    "text": "give a text",
    "image": "give its pixels from 0 to 255 as rows of the image, or the bytes of an image file as base64",
}


def absent_columns(names: list[str], there: Iterable[object]) -> DataError:
    """Rows lack columns that the model needs.

    Args:
        names: of those.
        there: the columns that they have.
    """
    columns = {str(name).casefold(): name for name in there}
    close = {name: get_close_matches(name.casefold(), columns, n=1) for name in names}
    shown = [f"{name!r} (there is {columns[near[0]]!r})" if near else repr(name) for name, near in close.items()]
    start = "a column that the model needs is" if len(names) == 1 else f"{len(names)} columns that the model needs are"
    return DataError(
        f"{start} absent: {listed(shown)}; add what is absent, None (in JSON null) where it is not known. There are: {listed(there)}"
    )


def unfit_value(name: str, kind: str, value: Any, why: object) -> DataError:
    """A column cannot hold a value.

    Args:
        name: of the column.
        kind: its kind.
        value: what it was given.
        why: it does not fit.
    """
    return DataError(f"column {name!r} holds {repr(value)[:80]}, which {why}; {_WANTED[kind]}")
