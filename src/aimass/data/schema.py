"""What each column is: its kind, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from aimass.core.errors import DataError, unknown_name

KINDS = ("numeric", "categorical", "boolean", "image", "ignored")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a data set.

    Args:
        name: as in the first line of the file.
        kind: `numeric`, `categorical`, `boolean`, `image` or `ignored`.
        note: what a person should know about it; empty when there is nothing.
    """

    name: str
    kind: str
    note: str = ""


class Schema:
    """The columns of a data set in their order.

    >>> schema = Schema([Column(name="age", kind="numeric"), Column(name="plan", kind="categorical")])
    >>> schema["plan"].kind, schema.kinds
    ('categorical', {'age': 'numeric', 'plan': 'categorical'})
    """

    def __init__(self, columns: Iterable[Column]) -> None:
        self.columns = tuple(columns)
        self._by_name = {column.name: column for column in self.columns}

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each column by its name."""
        return {column.name: column.kind for column in self.columns}

    def __getitem__(self, name: str) -> Column:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.columns == other.columns

    def __hash__(self) -> int:
        return hash(self.columns)

    def __repr__(self) -> str:
        return f"Schema({', '.join(f'{column.name}: {column.kind}' for column in self.columns)})"

    def to_json(self) -> list[dict[str, str]]:
        """A list that JSON can hold."""
        return [{"name": column.name, "kind": column.kind, "note": column.note} for column in self.columns]

    @classmethod
    def from_json(cls, columns: Iterable[Mapping[str, str]]) -> Schema:
        """The schema that `to_json` wrote."""
        return cls(Column(name=column["name"], kind=column["kind"], note=column.get("note", "")) for column in columns)


def overrides(schema: Mapping[str, str] | Schema | None, columns: list[str]) -> dict[str, str]:
    """What the caller says of the columns, checked: column name → kind.

    Raises:
        UsageError: a kind that does not exist.
        DataError: a column that the data lack.
    """
    if schema is None:
        return {}
    said: dict[str, Any] = schema.kinds if isinstance(schema, Schema) else dict(schema)
    for name, kind in said.items():
        if kind not in KINDS:
            raise unknown_name(f"column kind (for {name!r})", kind, KINDS)
        if name not in columns:
            raise no_column("the schema names", name, columns)
    return said


def no_column(who: str, name: str, columns: list[str]) -> DataError:
    """The error for a column that is not there: what asked for it, the nearest name, and all the others.

    >>> str(no_column("the target is", "chrn", ["age", "churn"]))
    "the target is 'chrn', and there is no such column; did you mean 'churn'? Columns: age, churn"
    """
    folded = {column.casefold(): column for column in columns}
    close = get_close_matches(name.casefold(), folded, n=1)
    hint = f"; did you mean {folded[close[0]]!r}?" if close else "."
    return DataError(f"{who} {name!r}, and there is no such column{hint} Columns: {listed(columns)}{perhaps_several(columns)}")


def perhaps_several(columns: list[str]) -> str:
    """What to say where the one column looks as if it were several; empty where it does not.

    >>> perhaps_several(["age churn"]), perhaps_several(["age"]), perhaps_several(["age", "churn"])
    ('; this is one column: values are told apart by commas, semicolons, tabs or bars', '', '')
    """
    is_one = len(columns) == 1 and len(columns[0].split()) > 1
    return "; this is one column: values are told apart by commas, semicolons, tabs or bars" if is_one else ""


def listed(names: Iterable[object], most: int = 20) -> str:
    """Names in a row, the first few of many, and on one line whatever they hold.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    every = [text if text.isprintable() else repr(text) for text in map(str, names)]
    rest = len(every) - most
    return ", ".join(every) if rest <= 0 else f"{', '.join(every[:most])} and {rest} more"
