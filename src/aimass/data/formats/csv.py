"""Comma-separated values: a line of names, then rows. Semicolons, tabs and bars separate too, where the first line uses them.

Every value is read as text; what it means is decided for whole columns later. Arrow parses, in parallel. When something is
wrong a slow second reading finds the line.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.core.errors import DataError
from aimass.data.formats._csv_lines import explain, find_open_quote, line_of_byte, quotes_look_wrong, records
from aimass.data.source import Raw, read_bytes

if TYPE_CHECKING:
    import pyarrow as pa

ALIASES = ("tsv", "txt")

_SEPARATORS = ",;\t|"
_BLOCK_BYTES = 4 << 20
_JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{\s*"')
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Finds the line of a row by reading the file again."""

    path: Path
    separator: str
    header_lines: int

    def of(self, row: int) -> str:
        """The line of row number `row`, as editors count: from 1, with the header."""
        try:
            content = self.path.read_bytes()
            for number, (line, _) in enumerate(records(content, self.separator, self.header_lines)):
                if number == row:
                    return f"line {line} of {self.path}"
        except (OSError, UnicodeDecodeError, csv.Error):
            pass  # the file changed since it was read: the number of the row still helps
        return f"row {row + 1} of {self.path}"


class CsvFormat:
    """Reads `.csv`, `.tsv` and `.txt`."""

    def read(self, path: Path) -> Raw:
        """The rows of a file, every value as text.

        Raises:
            DataError: it is empty, binary or ragged, a quote is never closed, or the header is not one.
        """
        content = read_bytes(path)
        _refuse_other(content, path)
        separator, names, header_lines = _header(content, path)
        if quotes_look_wrong(content, separator):
            line = find_open_quote(content, separator)
            if line is not None:
                raise DataError(
                    f"the quote that opens in line {line} of {path} is not closed at the end of its value; close it, or remove it"
                )
        try:
            table = _parse(content, separator, names, header_lines)
        except ValueError as error:
            raise explain(content, path, separator, names, header_lines, error) from None
        return Raw(name=str(path), table=table, places=Lines(path=path, separator=separator, header_lines=header_lines))


def _refuse_other(content: bytes, path: Path) -> None:
    """Refuse what is no text, and text of which it shows that it is no table."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16 text; save it as CSV in UTF-8")
    at = content.find(b"\0")
    if at >= 0:
        raise DataError(f"{path} is not text: line {line_of_byte(content, at)} holds a zero byte; save the data as CSV in UTF-8")
    if _JSON.match(content):
        raise DataError(f"{path} is JSON; save its rows as CSV, or give them from Python as a list of dicts")
    if _MARKUP.match(content):
        raise DataError(f"{path} is a web page or XML and no table; download the data themselves, or save them as CSV")


def _header(content: bytes, path: Path) -> tuple[str, list[str], int]:
    """The separator, the names, and how many lines the header takes."""
    try:
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
        first = next(line for line in text if line.strip())
        unquoted = re.sub(r'"[^"]*("|$)', "", first)
        separator = max(_SEPARATORS, key=unquoted.count)
        text.seek(0)
        reader = csv.reader(text, delimiter=separator)
        names = next(record for record in reader if any(name.strip() for name in record) or len(record) > 1)
    except UnicodeDecodeError:
        raise explain(content, path, ",", [], 0, ValueError("invalid UTF8 data")) from None
    except csv.Error as error:
        raise DataError(f"the first line of {path} holds no column names ({error}); is it a CSV file?") from None
    return separator, [name.strip() for name in names], reader.line_num


def _parse(content: bytes, separator: str, names: list[str], header_lines: int) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    # Arrow wants unique names; the caller reports those that are not.
    keys = [str(number) for number in range(len(names))]
    if next(records(content, separator, header_lines), None) is None:
        return pa.table([pa.array([], pa.string()) for _ in names], names=names)

    def read(block_bytes: int) -> pa.Table:
        return arrow_csv.read_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(column_names=keys, skip_rows=header_lines, block_size=block_bytes),
            parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=b'"' in content),
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False),
        )

    try:
        return read(_BLOCK_BYTES).rename_columns(names)
    except pa.ArrowInvalid as error:
        if "straddl" not in str(error):
            raise
        return read(len(content) + 1).rename_columns(names)


PLUGIN = CsvFormat
