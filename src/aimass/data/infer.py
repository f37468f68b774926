"""What kind each column is, told from all of its values, and the columns typed accordingly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aimass.data.conform import Reading, is_number, is_text, number_texts, numbers_of, present_texts, refuse_texts, typed_column
from aimass.data.pixels import is_image, shown
from aimass.data.schema import Column, Schema
from aimass.data.source import Raw
from aimass.data.values import FALSE_WORDS, TRUE_WORDS, Missing

if TYPE_CHECKING:
    import pyarrow as pa

NUMERIC_SHARE = 0.95
"""From this share of numbers on, a text in between is a mistake and no category."""

DISTINCT_SHARE = 0.9
"""Above this share of distinct values, a column of more than `FEW_ROWS` texts names its rows and is ignored."""

FEW_ROWS = 20

_NAMES_ROWS = "ignored: its values name the rows; use it with schema={{{name!r}: {kind!r}}}"

_ID_NAME = re.compile(r"(?:(?:^|[_\s.-])(?:id|Id|ID)|[a-z](?:Id|ID))$")
_DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"  # ISO 8601


def infer(raw: Raw, said: Mapping[str, str], missing: Missing, *, kept: frozenset[str] = frozenset()) -> tuple[Schema, pa.Table]:
    """Tell the kind of every column, and type it.

    Args:
        raw: the rows as found.
        said: column name → kind, where the caller has decided.
        missing: which values are missing ones.
        kept: columns that are never ignored by inference: the target and the weight.

    Returns:
        the schema, and a table in its order: numeric float64, boolean bool, categorical dictionaries, ignored as found.

    Raises:
        DataError: a column that is almost numeric, infinite values, or a value that the said kind cannot hold.
    """
    import pyarrow as pa

    reading = Reading(missing=missing, places=raw.places)
    columns: list[Column] = []
    typed: dict[str, Any] = {}
    for name in raw.table.column_names:
        found = raw.table.column(name)
        if name in said:
            column = Column(name=name, kind=said[name])
            typed[name] = typed_column(name, found, column.kind, reading)
        else:
            kind, note, typed[name] = _infer_column(name, found, reading, name in kept)
            column = Column(name=name, kind=kind, note=note)
        columns.append(column)
    return Schema(columns), pa.table(typed)


def _infer_column(name: str, found: Any, reading: Reading, kept: bool) -> tuple[str, str, Any]:
    """Kind, note and typed column."""
    import pyarrow as pa

    if is_image(found):
        return "image", shown(found.type.shape), typed_column(name, found, "image", reading)
    if is_text(found):
        kind, note, typed = _infer_text(name, found, reading, kept)
    elif is_number(found):
        kind, note, typed = "numeric", "", typed_column(name, found, "numeric", reading)
    elif pa.types.is_boolean(found.type):
        kind, note, typed = "boolean", "", found
    elif pa.types.is_dictionary(found.type):
        kind, note, typed = "categorical", "", typed_column(name, found, "categorical", reading)
    elif pa.types.is_null(found.type):
        kind, note, typed = "ignored", "", found
    else:
        return "ignored", f"ignored: {found.type} values have no kind; derive numbers or categories from them", found

    if typed.null_count == len(typed):
        return "ignored", "ignored: every value is missing", typed
    if kind == "numeric" and not kept and _ID_NAME.search(name) and _num_distinct(typed) == len(typed) > 1:
        return "ignored", _NAMES_ROWS.format(name=name, kind=kind), found
    if not note and _is_constant(typed):
        note = "one single value: it tells no row from another"
    return kind, note, typed


def _infer_text(name: str, found: Any, reading: Reading, kept: bool) -> tuple[str, str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = present_texts(found, reading.missing)
    numbers = numbers_of(name, texts, reading)
    if numbers is not None:
        return "numeric", "", numbers
    share = pc.mean(pc.cast(number_texts(texts), pa.float64())).as_py()
    if share >= NUMERIC_SHARE:
        raise refuse_texts(name, texts, reading)
    distinct, present = _num_distinct(texts), len(texts) - texts.null_count
    if not kept and distinct == len(texts) > 1 and _ID_NAME.search(name):
        return "ignored", _NAMES_ROWS.format(name=name, kind="categorical"), texts
    if not kept and present > FEW_ROWS and distinct > DISTINCT_SHARE * present:
        return "ignored", f"ignored: text that differs in nearly every row; use it with schema={{{name!r}: 'categorical'}}", texts
    if not kept and present and pc.all(pc.match_substring_regex(texts.drop_null(), _DATE), min_count=0).as_py():
        return "ignored", f"ignored: dates have no kind; derive numbers from them, or use schema={{{name!r}: 'categorical'}}", texts
    if distinct <= FEW_ROWS and {word.lower() for word in texts.unique().to_pylist() if word} <= TRUE_WORDS | FALSE_WORDS:
        return "boolean", "", typed_column(name, texts, "boolean", reading)
    return "categorical", "", typed_column(name, texts, "categorical", reading)


def _num_distinct(column: Any) -> int:
    import pyarrow.compute as pc

    return int(pc.count_distinct(column, mode="only_valid").as_py())


def _is_constant(column: Any) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array([chunk.indices for chunk in column.unify_dictionaries().chunks])
    extremes = pc.min_max(column).as_py()
    return bool(extremes["min"] == extremes["max"])
