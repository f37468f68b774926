"""Describing data to a person: what each column holds, and what was noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aimass.data.columns import CategoricalColumn
from aimass.data.conform import dictionary_of
from aimass.data.schema import Column
from aimass.data.target import class_ids, classes_of

if TYPE_CHECKING:
    import pyarrow as pa

    from aimass.data.dataset import Dataset


def describe_dataset(data: Dataset) -> dict[str, Any]:
    """See `Dataset.describe`."""
    description: dict[str, Any] = {
        "name": data.name,
        "rows": len(data),
        "target": data.target,
        "task": data.task,
        "columns": describe_columns(data.table, data.schema.columns),
        "classes": None,
        "split": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "notes": list(data.notes),
        "fingerprint": data.fingerprint,
    }
    if data.encoder.classes is not None:
        description["classes"] = class_counts(data.table.column(data.target), data)
    for column in data.encoder.columns:
        described = description["columns"][column.name]
        if isinstance(column, CategoricalColumn) and described["distinct"] > len(column.categories):
            others = described["distinct"] - len(column.categories)
            described["notes"].append(
                f"{others:,} of {described['distinct']:,} categories are rare or not in the training split: they count as one, 'other'"
            )
    return description


def class_counts(target: Any, data: Dataset) -> dict[str, int]:
    """How many rows each class has."""
    import numpy as np

    classes = data.encoder.classes or ()
    ids = class_ids(data.target, target, data.schema[data.target].kind, classes)
    return {str(value): int(count) for value, count in zip(classes, np.bincount(ids, minlength=len(classes)), strict=True)}


def describe_columns(table: pa.Table, columns: tuple[Column, ...]) -> dict[str, dict[str, Any]]:
    """Kind, missing and distinct values of each column, with range and mean of numbers and the share of true ones."""
    return {column.name: _describe_column(table.column(column.name), column) for column in columns}


def _describe_column(values: Any, column: Column) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    described: dict[str, Any] = {"kind": column.kind, "missing": values.null_count, "distinct": _distinct(column, values)}
    if column.kind == "numeric" and values.null_count < len(values):
        extremes = pc.min_max(values).as_py()
        described |= {"min": extremes["min"], "max": extremes["max"], "mean": pc.mean(values).as_py()}
    elif column.kind == "boolean":
        described["mean"] = pc.mean(values.cast(pa.float64())).as_py()
    described["notes"] = [column.note] if column.note else []
    return described


def _distinct(column: Column, values: Any) -> int | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.kind == "categorical":
        return len(classes_of(column.name, values, "categorical"))
    if pa.types.is_dictionary(values.type):
        return len(dictionary_of(column.name, values)[1])
    if values.null_count == len(values):
        return 0
    try:
        return int(pc.count_distinct(values, mode="only_valid").as_py())
    except pa.ArrowException:
        return None  # Arrow does not compare lists and the like
