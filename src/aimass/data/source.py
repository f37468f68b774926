"""Where rows come from: a file, a data set of scikit-learn, or a table in memory. All become one raw Arrow table."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aimass.core.errors import DataError, NotFound, StorageError, UsageError
from aimass.core.memory import free_memory_bytes
from aimass.data.values import category

if TYPE_CHECKING:
    import pyarrow as pa

    from aimass.data.images import Wanted


class Places(Protocol):
    """Tells a person where a row stands."""

    def of(self, row: int) -> str:
        """The place of row number `row`, which counts from 0."""
        ...


class RowNumbers:
    """Rows in memory are known by their number.

    >>> RowNumbers().of(3)
    'row 3'
    """

    def of(self, row: int) -> str:
        """The place of row number `row`, which counts from 0."""
        return f"row {row}"


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Rows as they were found.

    Args:
        name: what to call the source in a message.
        table: the columns. Those of text files are strings.
        places: finds a row again for a message.
        target: the column to predict, where the source itself says so.
        image: where the other columns are the pixels of an image, in order: its channels, height and width.
        num_test: how many of the last rows the source itself sets aside as the test split.
    """

    name: str
    table: pa.Table
    places: Places = field(default_factory=RowNumbers)
    target: str | None = None
    image: tuple[int, int, int] | None = None
    num_test: int = 0


def open_source(source: Any, wanted: Wanted | None = None) -> Raw:
    """Read a source of any supported kind.

    Args:
        source: a path, the name of a sample, a mapping of columns, a list of rows, an Arrow table or a data frame.
        wanted: what the images of files shall be, where there are any.

    Raises:
        NotFound: there is no such file or sample.
        DataError: it cannot be read, has no rows, or its columns have no names of their own.
        UsageError: it is none of these.
    """
    if isinstance(source, Raw):
        return source
    named = isinstance(source, (str, os.PathLike))
    raw = _open_named(os.fspath(source), wanted) if named else Raw(name="the table", table=_as_table(source))
    _check_names(raw)
    if raw.table.num_rows == 0:
        raise DataError(f"{raw.name} has columns and no rows; add rows to it")
    return raw


def _open_named(name: str, wanted: Wanted | None) -> Raw:
    from aimass.data.folders import read_folder
    from aimass.data.formats import read_file
    from aimass.data.images import SUFFIXES, Wanted, read_image
    from aimass.data.samples import SAMPLES, read_sample

    if not name:
        raise NotFound(f"the name of the data is empty; give the path of a CSV file, or one of the samples: {', '.join(SAMPLES)}")
    path = Path(name).expanduser()
    try:
        found = path.is_file() or (path.exists() and name not in SAMPLES)
    except (OSError, ValueError) as error:
        raise DataError(f"{name[:200]!r} cannot be read ({getattr(error, 'strerror', None) or error}); check the path") from None
    if found:
        if path.is_dir():
            return read_folder(path, wanted or Wanted())
        return read_image(path, wanted or Wanted()) if path.suffix.lower() in SUFFIXES else read_file(path)
    if name in SAMPLES:
        return read_sample(name)
    close = get_close_matches(name, SAMPLES, n=1)
    hint = f"did you mean the sample {close[0]!r}? Samples" if close else "give the path of a CSV file, or one of the samples"
    raise NotFound(f"there is no file {name!r}; {hint}: {', '.join(SAMPLES)}")


def read_bytes(path: Path, needs: str = "a line of column names and rows below it") -> bytes:
    """The whole content of a file.

    Args:
        path: the file.
        needs: what it should hold, for the message about one that holds nothing.

    Raises:
        DataError: it is a folder, may not be read, or holds nothing.
        StorageError: it does not fit into memory.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder; name one file in it")
        size_bytes, free = path.stat().st_size, free_memory_bytes()
        if free is not None and size_bytes > free:
            raise StorageError(f"{path} has {size_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free; use fewer rows")
        content = path.read_bytes()
    except PermissionError:
        raise DataError(f"{path} may not be read; check its permissions") from None
    except OSError as error:
        raise DataError(f"{path} could not be read ({error.strerror or error}); check the file and try again") from None
    if re.search(rb"[^ \t\r\n]", content.removeprefix(b"\xef\xbb\xbf")) is None:
        raise DataError(f"{path} is empty; it needs {needs}")
    return content


def _as_table(source: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(source, pa.Table):
        return source
    if isinstance(source, Mapping):
        return _from_columns(source)
    if type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns"):
        try:
            return _from_pandas(source)
        except (pa.ArrowException, TypeError, ValueError):
            return _from_columns({str(name): source[name].tolist() for name in source.columns})
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    if isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
        names = dict.fromkeys(name for row in source for name in row)
        return _from_columns({name: [row.get(name) for row in source] for name in names})
    raise UsageError(
        f"data cannot be a {type(source).__name__}; give a path, the name of a sample, a dict of columns, "
        "a list of rows that are dicts, a pandas DataFrame or a pyarrow Table"
    )


def _from_pandas(frame: Any) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pandas(frame, preserve_index=False)


def _from_columns(columns: Mapping[Any, Any]) -> pa.Table:
    import pyarrow as pa

    if not columns:
        raise DataError("the table is empty; it needs columns with rows")
    arrays = {str(name): _as_array(str(name), values) for name, values in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    first, length = next(iter(lengths.items()))
    for name, other in lengths.items():
        if other != length:
            raise DataError(f"column {name!r} has {other} values and column {first!r} has {length}; give every column one value a row")
    return pa.table(arrays)


def _as_array(name: str, values: Any) -> Any:
    """One column. Values of several kinds become text, so that the rules for text find the odd one."""
    import pyarrow as pa

    from aimass.data.pixels import many_images

    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise DataError(f"column {name!r} is a single {type(values).__name__}; give a list or an array with one value a row")
    if getattr(values, "ndim", 1) != 1:
        if values.ndim > 2 and str(getattr(values, "dtype", "")) == "uint8":
            return many_images(values)
        raise DataError(f"column {name!r} has {values.ndim} dimensions; give each of its columns a name of its own")
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        try:
            return pa.array([category(value, None) for value in values], type=pa.string())
        except ValueError as error:
            raise DataError(f"column {name!r} holds something that {error}; give numbers, text or booleans") from None


def _check_names(raw: Raw) -> None:
    names = list(raw.table.column_names)
    for number, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(
                f"column {number} of {raw.name} has no name; give it one in the header, or remove it "
                "(pandas writes such a column for its index: use to_csv(..., index=False))"
            )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{raw.name} has {names.count(twice)} columns named {twice!r}; give each a name of its own")
