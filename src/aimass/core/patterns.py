"""Names with wildcards, for choosing parameters and layers."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any


def fits(name: str, pattern: str) -> bool:
    """Whether a dotted name fits a pattern with `*` and `?`. A pattern without either stands for all below it too.

    >>> fits("head.weight", "head"), fits("header.weight", "head"), fits("head.weight", "*.weight")
    (True, False, True)
    """
    return fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")


def read_patterns(value: Any) -> Any:
    """Patterns as people write them: one, several by commas, or a list.

    >>> read_patterns("features.*, *.bias"), read_patterns(["a"])
    (('features.*', '*.bias'), ['a'])
    """
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value
