"""A data set that is ready to train on, and one part of its rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aimass.data.batch import Encoded
from aimass.data.conform import dictionary_of
from aimass.data.encoder import Encoder
from aimass.data.pixels import raw_pixels
from aimass.data.schema import Schema
from aimass.data.source import Places, RowNumbers
from aimass.data.summary import describe_dataset

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Some rows of a source, as a model's encoder reads them.

    Args:
        table: the columns in use, typed: numeric float64, boolean bool, categorical text behind a dictionary; nulls are missing.
        ids: which row of the source each is, from 0. int64 (num_rows,).
        encoder: what turns them into arrays.
        places: where a row of `table` stands in its source, for messages.
        text: of windows of text, what they were cut from.
    """

    table: pa.Table
    ids: NDArray[np.int64]
    encoder: Encoder
    places: Places = field(default_factory=RowNumbers, repr=False)
    text: bytes = field(default=b"", repr=False)

    @cached_property
    def encoded(self) -> Encoded:
        """The rows as arrays, made when first asked for.

        Raises:
            DataError: a value is too large, or a target or weight cannot be used.
        """
        return self.encoder.encode(self.table, rows=self.ids, places=self.places)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Rows({len(self):,} rows, {counted_inputs(self.encoder)})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Rows with a schema and a target, split in three, and the encoder fitted on the first part.

    Args:
        name: the source, for messages.
        schema: every column of the source.
        target: the column to predict.
        task: `binary`, `multiclass`, `regression` or `language`.
        encoder: fitted on `train` alone.
        train: rows to learn from.
        validation: rows that decide when to stop; may be empty when there are few.
        test: rows that nothing was decided on; may be empty when there are few.
        fingerprint: of the content, the schema, the split and the seed: equal ones train equally. SHA-256, hexadecimal.
        table: all rows, typed as in `Rows.table`, with the ignored columns as they were found.
        notes: what a person should know about the whole.
        origin: the arguments of `load` that give it again, as JSON can hold them; None where the source was in memory.
    """

    name: str
    schema: Schema
    target: str
    task: str
    encoder: Encoder
    train: Rows
    validation: Rows
    test: Rows
    fingerprint: str
    table: pa.Table = field(repr=False)
    notes: tuple[str, ...] = ()
    origin: dict[str, Any] | None = field(default=None, repr=False)

    def describe(self) -> dict[str, Any]:
        """What there is, as JSON can hold it: columns, classes, the sizes of the splits, and notes.

        >>> from aimass.data import load
        >>> load("iris").describe()["classes"]
        {'setosa': 50, 'versicolor': 50, 'virginica': 50}
        """
        return describe_dataset(self)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        sizes = f"{len(self.train):,} + {len(self.validation):,} + {len(self.test):,} rows"
        return f"Dataset({self.name}: {sizes}, {counted_inputs(self.encoder)}, {self.task} target {self.target!r})"


def counted_inputs(encoder: Encoder) -> str:
    """How many columns a model reads, in words."""
    count = len(encoder.features)
    return f"{count} {'input' if count == 1 else 'inputs'}"


@dataclass(frozen=True, kw_only=True)
class SplitPlaces:
    """Finds the rows of a split in the whole source."""

    whole: Places
    ids: Any

    def of(self, row: int) -> str:
        """The place in the source of the split's row number `row`."""
        return self.whole.of(int(self.ids[row]))


def fingerprint(table: pa.Table, schema: Schema, settings: dict[str, Any]) -> str:
    """SHA-256 of what training sees: every column in use by value, the schema, and how the rows are split.

    It depends neither on how the values lie in memory nor on where they were read from.

    Args:
        table: all rows, typed. Ignored columns do not count.
        schema: of the table.
        settings: the rest, as JSON can hold it.
    """
    import numpy as np
    import pyarrow as pa

    digest = hashlib.sha256(json.dumps([schema.kinds, settings], sort_keys=True).encode())
    for column in schema:
        if column.kind == "ignored":
            continue
        values = table.column(column.name)
        if column.kind == "categorical":
            indices, texts = dictionary_of(column.name, values)
            digest.update(json.dumps(texts).encode())
            digest.update(np.ascontiguousarray(indices, dtype="<i4").data)
        elif column.kind == "image":
            digest.update(json.dumps(list(values.type.shape)).encode())
            digest.update(np.ascontiguousarray(raw_pixels(values)).data)
        else:
            digest.update(np.ascontiguousarray(values.cast(pa.float64()).to_numpy(), dtype="<f8").data)
    return digest.hexdigest()
