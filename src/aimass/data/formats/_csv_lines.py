"""Finding the line of a CSV file that is wrong: slow and exact, for when the fast reader has failed."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aimass.core.errors import DataError


def records(content: bytes, separator: str, header_lines: int) -> Iterator[tuple[int, list[str]]]:
    """Each record below the header, with the number of the line on which it starts. Blank lines are none."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    for _ in range(header_lines):
        next(text, None)
    with _fields_of_any_length():
        reader = csv.reader(text, delimiter=separator)
        start = header_lines + 1
        for record in reader:
            if record:
                yield start, record
            start = header_lines + reader.line_num + 1


def find_open_quote(content: bytes, separator: str) -> int | None:
    """The line of the quote that is still open at the end of the file, or None where all are closed."""
    last = None
    try:
        for last, _ in records(content, separator, 0):  # noqa: B007
            pass
    except UnicodeDecodeError:
        return None  # reported as such by the reader
    if last is None:
        return None
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    for _ in range(last - 1):
        next(text, None)
    try:
        with _fields_of_any_length():
            next(csv.reader(text, delimiter=separator, strict=True), None)
    except csv.Error as error:
        return last if "end of data" in str(error) else None
    return None


def explain(content: bytes, path: Path, separator: str, names: list[str], header_lines: int, error: Exception) -> DataError:
    """The sentence for a file that could not be parsed."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as bad:
        line = line_of_byte(content, bad.start)
        return DataError(f"{path} is not UTF-8 text: byte 0x{content[bad.start]:02x} in line {line}; save it as CSV in UTF-8")
    for line, record in records(content, separator, header_lines):
        if len(record) != len(names):
            return DataError(
                f"line {line} of {path} has {_counted(len(record), 'value')} and the header has {_counted(len(names), 'name')}; "
                "add or remove separators, or put values that contain one in double quotes"
            )
    reason = str(error).strip().splitlines()[0][:200]
    return DataError(f"{path} could not be read as CSV ({reason}); check its quotes and separators")


def line_of_byte(content: bytes, at: int) -> int:
    """The number of the line, from 1, that holds byte `at`.

    >>> line_of_byte(b"a\\nb\\r\\nc", 5)
    3
    """
    before = content[:at]
    newlines = before.count(b"\n")
    return 1 + (newlines or before.count(b"\r"))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    usual = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(usual)
