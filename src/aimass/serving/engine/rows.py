"""Rows to a network's inputs, in bulk. To the bit as `Encoder.encode_row` does them one by one, which is asked about anything unusual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from aimass.core.errors import DataError
from aimass.data.columns import CategoricalColumn, NumericColumn
from aimass.data.pixels import ImageColumn
from aimass.data.text import TextColumn
from aimass.serving.engine.failures import about

if TYPE_CHECKING:
    from aimass.data.columns import FeatureColumn
    from aimass.data.encoder import Encoder

Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]
_LARGEST = 3.4028234663852886e38  # of float32
_MOST_FIELDS = 1024  # a decoder seeks a field from where the last one stood, so keys in another order cost the square
_TYPES = {"numeric": float | None, "boolean": bool | None, "categorical": Any}


class BulkEncoder:
    """Encodes many rows at once.

    A row is a tuple: first the numbers and booleans, NaN or None where missing, then the categories; both in the columns' order.

    Args:
        encoder: the model's.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.measured = [column for column in encoder.columns if not isinstance(column, (CategoricalColumn, ImageColumn, TextColumn))]
        self.categorical = [column for column in encoder.columns if isinstance(column, CategoricalColumn)]
        self.exact = not encoder.missing.numbers  # else some numbers mean "missing", which is left to the encoder
        scales = [(column.mean, column.std) if isinstance(column, NumericColumn) else (0.0, 1.0) for column in self.measured]
        self._mean = np.array([mean for mean, _ in scales], dtype=np.float64)
        self._std = np.array([std for _, std in scales], dtype=np.float64)
        self._fill = np.array([0.0 if isinstance(column, NumericColumn) else column.mean for column in self.measured], dtype=np.float64)
        # No number up to here can overflow, or be too far from the mean.
        self._safe = _LARGEST / 2 * self._std.min(initial=1.0) - np.abs(self._mean).max(initial=0.0)
        widths = [column.width for column in self.measured]
        self._values = np.cumsum([0, *widths])[:-1]  # where each column's value goes
        self._flagged = np.flatnonzero(np.array(widths) == 2)  # the columns whose missing values have a number of their own

    def encode(self, rows: Sequence[tuple[Any, ...]]) -> Arrays | None:
        """Numbers and category ids of rows; None where one of them is unusual."""
        num_measured = len(self.measured)
        if not self.categorical:
            numbers = self.scale(np.array(rows, dtype=np.float64).reshape(len(rows), num_measured))
            return None if numbers is None else (numbers, np.empty((len(rows), 0), dtype=np.int64))
        categories = self.ids([row[num_measured:] for row in rows])
        if categories is None:
            return None
        numbers = self.scale(np.array([row[:num_measured] for row in rows], dtype=np.float64).reshape(len(rows), num_measured))
        return None if numbers is None else (numbers, categories)

    def scale(self, raw: NDArray[np.float64]) -> NDArray[np.float32] | None:
        """Standardised numbers of raw ones, NaN where missing; None where one is infinite or too far for float32.

        Args:
            raw: the columns with numbers and booleans. (num_rows, num_measured)
        """
        absent = None
        if np.abs(raw).max(initial=0.0) <= self._safe:  # NaN is not
            scaled = (raw - self._mean) / self._std
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                scaled = (raw - self._mean) / self._std
            absent = np.isnan(raw)
            if not np.abs(scaled[~absent]).max(initial=0.0) <= _LARGEST:
                return None
            scaled = np.where(absent, self._fill, scaled)
        if not len(self._flagged):
            return scaled.astype(np.float32)
        numbers = np.zeros((len(raw), self.encoder.num_numbers), dtype=np.float32)
        numbers[:, self._values] = scaled
        if absent is not None:
            numbers[:, self._values[self._flagged] + 1] = absent[:, self._flagged]
        return numbers

    def ids(self, rows: Sequence[Sequence[Any]]) -> NDArray[np.int64] | None:
        """Category ids; None where a value names no category.

        Args:
            rows: the values of the categorical columns, row by row.
        """
        found: list[int] = []
        nothing: list[float] = []
        missing = self.encoder.missing
        try:
            for row in rows:
                for column, value in zip(self.categorical, row, strict=True):
                    column.append(value, nothing, found, missing)
        except ValueError:
            return None
        return np.array(found, dtype=np.int64).reshape(len(rows), len(self.categorical))


def encode_carefully(encoder: Encoder, rows: Sequence[Any], place: str = "instances") -> Arrays:
    """Encode rows one by one.

    Args:
        encoder: the model's.
        rows: objects of columns, or lists of values in the order of the columns.
        place: what the request calls its rows, for the errors' `param`.

    Returns:
        numbers and category ids. A text shorter than the context has zero bytes before it.

    Raises:
        DataError: a row cannot be encoded; it says which one, which column and what is wanted.
    """
    numbers = np.empty((len(rows), encoder.num_numbers), dtype=np.float32)
    categories = np.empty((len(rows), len(encoder.cardinalities)), dtype=np.int64)
    for number, given in enumerate(rows):
        param = f"{place}[{number}]"
        row = _named(encoder, given, number, param)
        try:
            numbers[number], ids = encoder.encode_row(row)
            categories[number] = [0] * (encoder.context - len(ids)) + ids if encoder.context else ids
        except DataError as error:
            column = _at_fault(encoder, row)
            raise about(DataError(f"row {number}: {error}"), param if column is None else f"{param}.{column}") from None
    return numbers, categories


def _named(encoder: Encoder, row: Any, number: int, param: str) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    wanted = f"{len(encoder.features)} columns"
    if not isinstance(row, list | tuple):
        shown = "null" if row is None else f"of type {type(row).__name__}"
        raise about(DataError(f"row {number} is {shown}; a row is an object of the model's {wanted}, or a list of their values"), param)
    if len(row) != len(encoder.features):
        order = ", ".join(encoder.features[:8]) + (", ..." if len(encoder.features) > 8 else "")
        raise about(DataError(f"row {number} has {len(row)} values, and the model takes {wanted}, in this order: {order}"), param)
    return dict(zip(encoder.features, row, strict=True))


def _at_fault(encoder: Encoder, row: dict[str, Any]) -> str | None:
    """The first column that is absent or holds what it cannot."""
    for column in encoder.columns:
        try:
            column.append(row[column.name], [], [], encoder.missing)
        except (KeyError, ValueError, DataError):
            return column.name
    return None


Decode = Callable[[bytes], list[tuple[Any, ...]]]


def row_decoders(bulk: BulkEncoder) -> tuple[Decode, ...]:
    """What turns the body of a `predict` into rows for `BulkEncoder.encode`: one for objects, one for lists.

    They are compiled for the model's columns, and raise `msgspec.ValidationError` for whatever is not just as expected.
    """
    columns = bulk.encoder.columns
    if not bulk.exact or bulk.encoder.has_images or bulk.encoder.context or not 0 < len(columns) <= _MOST_FIELDS:
        return ()
    stored: list[FeatureColumn] = [*bulk.measured, *bulk.categorical]
    try:
        objects = _decoder(stored, array_like=False)
    except ValueError:  # a column's name has a quote or a control character in it
        return ()
    if stored == list(columns):
        return objects, _decoder(stored, array_like=True)
    places = {column.name: place for place, column in enumerate(columns)}
    in_order = itemgetter(*(places[column.name] for column in stored))
    lists = _decoder(list(columns), array_like=True)
    return objects, lambda body: list(map(in_order, lists(body)))


def _decoder(columns: Sequence[FeatureColumn], *, array_like: bool) -> Decode:
    names = {f"c{place}": column.name for place, column in enumerate(columns)}
    fields = [(field, _TYPES[column.kind]) for field, column in zip(names, columns, strict=True)]
    row = msgspec.defstruct("Row", fields, rename=names, array_like=array_like, forbid_unknown_fields=array_like, gc=False)
    body: Any = msgspec.defstruct("Body", [("instances", list[row])], gc=False)  # type: ignore[valid-type]
    decode = msgspec.json.Decoder(body).decode
    values = msgspec.structs.astuple
    return lambda data: list(map(values, decode(data).instances))
