"""Raw columns become typed ones: numeric float64, boolean bool, categorical text behind a dictionary, images as tensors.

Nulls are missing values.

These are the rules of `values`, applied to whole columns. What they refuse is named with its column, value and place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aimass.core.errors import DataError
from aimass.data.pixels import is_image
from aimass.data.source import Places, RowNumbers
from aimass.data.values import NUMBER, WHITESPACE, Missing, boolean, category

if TYPE_CHECKING:
    import pyarrow as pa

_Column = Any  # a pyarrow.ChunkedArray, which has no types


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How columns are read.

    Args:
        missing: which values are missing ones.
        places: where a row stands, for messages.
        fitted: whether a model has settled the kinds of the columns, so that a message does not offer to change them.
    """

    missing: Missing
    places: Places = field(default_factory=RowNumbers)
    fitted: bool = False

    def advice(self, name: str, value: object) -> str:
        """What to do about a value that does not suit its column."""
        if self.fitted:
            return "correct it, or leave it empty where it is not known"
        shown = str(value)[:60]
        return f"correct it, or load with schema={{{name!r}: 'categorical'}}, or with missing=[{shown!r}]"


def conform(table: pa.Table, kinds: dict[str, str], reading: Reading) -> pa.Table:
    """The columns that `kinds` names, typed. Doing it twice changes nothing.

    Args:
        table: raw or typed columns. Those that `kinds` does not name are left out.
        kinds: column name → kind. Ignored columns stay as they are.
        reading: what is missing, and how to speak of a row.

    Raises:
        DataError: a value that its column cannot hold.
    """
    import pyarrow as pa

    typed = {name: typed_column(name, table.column(name), kind, reading) for name, kind in kinds.items() if name in table.column_names}
    return pa.table(typed)


def typed_column(name: str, column: _Column, kind: str, reading: Reading) -> _Column:
    """One column as its kind. Its length stays.

    Raises:
        DataError: a value that the column cannot hold.
    """
    if kind == "numeric":
        return _numeric(name, column, reading)
    if kind == "boolean":
        return _boolean(name, column, reading)
    if kind == "categorical":
        return _categorical(name, column, reading)
    if kind == "image":
        return _images(name, column, reading)
    return column


def is_text(column: _Column) -> bool:
    """Whether a column holds strings."""
    return str(column.type) in ("string", "large_string", "string_view")


def is_number(column: _Column) -> bool:
    """Whether a column holds numbers."""
    import pyarrow as pa

    return bool(pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type))


def present_texts(column: _Column, missing: Missing) -> _Column:
    """A column of strings without the white space around them, null where the value is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.utf8_trim(pc.cast(column, pa.string()), characters=WHITESPACE)
    absent = pc.is_in(texts, value_set=pa.array(sorted(missing.spellings)))
    return pc.if_else(absent, pa.scalar(None, pa.string()), texts)


def numbers_of(name: str, texts: _Column, reading: Reading) -> _Column | None:
    """Present texts as float64, or None where at least one of them is no number.

    Raises:
        DataError: one of them is infinite.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return _finite(name, pc.cast(texts, pa.float64()), reading)
    except pa.ArrowInvalid:
        return None


def number_texts(texts: _Column) -> _Column:
    """For each present text, whether it is a number; null for missing ones."""
    import pyarrow.compute as pc

    return pc.match_substring_regex(texts, NUMBER)


def refuse_texts(name: str, texts: _Column, reading: Reading) -> DataError:
    """The error for a numeric column in which some texts are no numbers."""
    import numpy as np
    import pyarrow.compute as pc

    bad = np.flatnonzero(~pc.fill_null(number_texts(texts), True).to_numpy().astype(bool))
    first = int(bad[0])
    word, total = texts[first].as_py(), len(texts) - texts.null_count
    return DataError(
        f"column {name!r} holds {word[:60]!r} in {reading.places.of(first)} ({_share(len(bad), total)} not a number); "
        f"{reading.advice(name, word)}"
    )


def by_value(name: str, column: _Column, convert: Callable[[Any], Any], value_type: Any, reading: Reading) -> _Column:
    """Convert each distinct value once.

    Args:
        name: the column's name, for messages.
        column: values of any type that Arrow can make a dictionary of.
        convert: one value → what it becomes, or None; a ValueError's message ends a sentence about the value.
        value_type: the Arrow type of what it becomes.
        reading: how to speak of a row.

    Returns:
        a column with a dictionary that holds each converted value once.
    """
    import numpy as np
    import pyarrow as pa

    indices, values = dictionary_of(name, column)
    numbers: dict[Any, int] = {}
    lookup = np.full(len(values) + 1, -1, dtype=np.int32)  # the last entry is that of nulls, whose index is -1
    for old, value in enumerate(values):
        try:
            new = None if value is None else convert(value)
        except ValueError as error:
            raise _bad_value(name, value, str(error), indices == old, reading) from None
        if new is not None:
            lookup[old] = numbers.setdefault(new, len(numbers))
    found = lookup[indices]
    return pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array(found, mask=found < 0), pa.array(list(numbers), value_type))])


def dictionary_of(name: str, column: _Column) -> tuple[Any, list[Any]]:
    """Indices, -1 for nulls, and the values that they point to. int32 (num_rows,).

    Raises:
        DataError: the column holds lists or the like.
    """
    import numpy as np
    import pyarrow as pa

    try:
        encoded = (column if pa.types.is_dictionary(column.type) else column.dictionary_encode()).unify_dictionaries()
    except pa.ArrowException:
        raise DataError(
            f"column {name!r} holds {column.type} values, which have no kind; load with schema={{{name!r}: 'ignored'}}"
        ) from None
    if encoded.num_chunks == 0:
        return np.empty(0, np.int32), []
    parts = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in encoded.chunks]
    return np.concatenate(parts).astype(np.int32, copy=False), encoded.chunk(0).dictionary.to_pylist()


def _numeric(name: str, column: _Column, reading: Reading) -> _Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if is_text(column):
        texts = present_texts(column, reading.missing)
        numbers = numbers_of(name, texts, reading)
        if numbers is None:
            raise refuse_texts(name, texts, reading)
        return numbers
    if is_number(column) or pa.types.is_boolean(column.type) or pa.types.is_null(column.type):
        return _finite(name, pc.cast(column, pa.float64(), safe=False), reading)
    raise DataError(f"column {name!r} holds {column.type} values, not numbers; convert them, or load with schema={{{name!r}: 'ignored'}}")


def _finite(name: str, numbers: _Column, reading: Reading) -> _Column:
    """Nulls for what is missing, and no infinities."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    absent = pc.is_nan(numbers)
    if reading.missing.numbers:
        absent = pc.or_(absent, pc.is_in(numbers, value_set=pa.array(sorted(reading.missing.numbers))))
    if pc.any(absent).as_py():
        numbers = pc.if_else(absent, pa.scalar(None, pa.float64()), numbers)
    infinite = pc.is_inf(numbers)
    if pc.any(infinite).as_py():
        bad = np.flatnonzero(pc.fill_null(infinite, False).to_numpy().astype(bool))
        first = int(bad[0])
        raise DataError(
            f"column {name!r} holds {numbers[first].as_py()!r} in {reading.places.of(first)} ({_share(len(bad), len(numbers))} infinite); "
            "put a number there, or leave it empty to make it a missing value"
        )
    return numbers


def _boolean(name: str, column: _Column, reading: Reading) -> _Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_boolean(column.type):
        return column
    mapped = by_value(name, column, lambda value: boolean(value, reading.missing), pa.bool_(), reading)
    return pc.cast(mapped, pa.bool_())


def _categorical(name: str, column: _Column, reading: Reading) -> _Column:
    import pyarrow as pa

    if is_text(column):
        indices, values = dictionary_of(name, present_texts(column, reading.missing))
        return pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array(indices, mask=indices < 0), pa.array(values, pa.string()))])
    return by_value(name, column, lambda value: category(value, reading.missing), pa.string(), reading)


def _images(name: str, column: _Column, reading: Reading) -> _Column:
    import numpy as np

    if not is_image(column):
        raise DataError(f"column {name!r} holds {column.type} values and no images; give arrays of uint8, or a folder of image files")
    if column.null_count:
        first = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError(f"column {name!r} has no image in {reading.places.of(first)}; put one there, or take the row out")
    return column


def _bad_value(name: str, value: Any, why: str, bad: Any, reading: Reading) -> DataError:
    import numpy as np

    first = int(np.flatnonzero(bad)[0])
    return DataError(f"column {name!r} holds {str(value)[:60]!r} in {reading.places.of(first)}, which {why}; {reading.advice(name, value)}")


def _share(bad: int, total: int) -> str:
    return f"{bad:,} of {total:,} values {'is' if bad == 1 else 'are'}"
