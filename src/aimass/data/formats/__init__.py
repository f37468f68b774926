"""File formats, one file each: the stem is the format's name, and its aliases are the other suffixes that it reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from aimass.core.errors import UsageError
from aimass.core.plugins import Kind
from aimass.data.source import Raw

_IDX = re.compile(r"[-.]idx\d-ubyte(\.gz)?\Z")

FORMATS = Kind(name="file format", package="aimass.data.formats", group="aimass.formats")


class Format(Protocol):
    """Reads one kind of file. A plugin's `PLUGIN` is such a class; it is made without arguments."""

    def read(self, path: Path) -> Raw:
        """The rows of a file that exists.

        Raises:
            DataError: the file cannot be read; the message names it, the line where there is one, and what to do.
        """
        ...


def read_file(path: Path) -> Raw:
    """Read a file by the format that its name tells, most often by its suffix. One that tells none is read as CSV."""
    try:
        name = "idx" if _IDX.search(path.name) else FORMATS.canonical(path.suffix.removeprefix("."))
    except UsageError:
        name = "csv"
    reader: Format = FORMATS.load(name)()
    return reader.read(path)
