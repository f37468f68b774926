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


def quotes_look_wrong(content: bytes, separator: str) -> bool:
    """Whether a quote might not be closed where its value ends. Fast, and sometimes wrong: a quote may be part of a value.

    In a sound file every second quote closes: what follows is a separator, the end of the line or another quote.
    """
    import numpy as np

    data = np.frombuffer(content, dtype=np.uint8)
    quotes = np.flatnonzero(data == ord('"'))
    if len(quotes) % 2:
        return True
    after = quotes[1::2] + 1
    allowed = np.zeros(256, dtype=bool)
    allowed[list(f'"\r\n {separator}'.encode())] = True
    return not bool(allowed[data[after[after < len(data)]]].all())


def find_open_quote(content: bytes, separator: str) -> int | None:
    """The line of the first value with a quote that is not closed at its end, or None where there is none. Slow and exact."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
    with _fields_of_any_length():
        reader = csv.reader(text, delimiter=separator, strict=True)
        start = 1
        try:
            for _ in reader:
                start = reader.line_num + 1
        except csv.Error:
            return start
        except UnicodeDecodeError:
            pass  # whoever reads the content next says so
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
