"""The column to predict: which task it sets, which classes it has, and what its values become."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aimass.core.errors import DataError, UsageError, unknown_name
from aimass.data.conform import dictionary_of, is_text, present_texts
from aimass.data.schema import listed, no_column, perhaps_several
from aimass.data.source import Places, Raw
from aimass.data.values import Missing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TASKS = ("binary", "multiclass", "regression")
_is_plain_integer = re.compile(r"(?:0|-?[1-9][0-9]{0,17})\Z").match

MOST_INTEGER_CLASSES = 20
"""Whole numbers with at most so many distinct values are classes; with more they are a quantity."""


def target_kind(raw: Raw, name: str, kind: str, missing: Missing) -> str:
    """The kind of the target, which keeps its spelling: "no" and "yes" stay the names of the classes.

    Only `true` and `false`, and a mixture of spellings, become booleans.
    """
    found = raw.table.column(name)
    if kind != "boolean" or not is_text(found):
        return kind
    words = dictionary_of(name, present_texts(found, missing))[1]
    return "categorical" if len(words) == 2 and not {word.lower() for word in words} <= {"true", "false"} else kind


def refuse_missing(name: str, column: Any, places: Places) -> None:
    """Refuse rows whose target is not known.

    Raises:
        DataError: names their number, the first of them, and what to do.
    """
    import numpy as np

    if column.null_count:
        first = int(np.flatnonzero(column.is_null().to_numpy())[0])
        rows = f"{column.null_count:,} of {len(column):,} rows"
        raise DataError(f"the target {name!r} is missing in {rows}, first in {places.of(first)}; fill it in, or remove those rows")


def settle_task(name: str, column: Any, kind: str, task: str | None) -> str:
    """The task that a target sets, or the one that was asked for where the target allows it.

    Args:
        name: of the target.
        column: the target in all rows, typed, without missing values.
        kind: `numeric`, `categorical` or `boolean`.
        task: what the caller wants; None to tell it from the values.

    Raises:
        UsageError: there is no such task.
        DataError: the target has a single value, or does not suit the task.
    """
    import pyarrow.compute as pc

    if task is not None and task not in TASKS:
        raise unknown_name("task", task, TASKS)
    num_distinct = pc.count_distinct(column).as_py() if kind == "numeric" else 0
    if task in (None, "regression") and num_distinct > MOST_INTEGER_CLASSES:
        return "regression"
    classes = classes_of(name, column, kind)
    if len(classes) == 1:
        raise DataError(
            f"the target {name!r} has the one value {classes[0]!r} in every row: there is nothing to tell apart; choose another"
        )
    if task is None:
        whole = all(isinstance(value, int) for value in classes)
        if kind == "numeric" and not (whole and len(classes) <= MOST_INTEGER_CLASSES):
            return "regression"
        task = "binary" if len(classes) == 2 else "multiclass"
    if task == "regression" and kind != "numeric":
        raise DataError(f"the target {name!r} holds {classes[0]!r}, and regression needs numbers; leave task out, or choose another target")
    if task == "binary" and len(classes) != 2:
        raise DataError(
            f"the target {name!r} has {len(classes)} values and binary needs 2; use task='multiclass', or choose another target"
        )
    if kind == "categorical" and len(classes) == len(column) > MOST_INTEGER_CLASSES:
        raise DataError(f"the target {name!r} differs in every row: no class has a second example; choose another target")
    return task


def classes_of(name: str, column: Any, kind: str) -> tuple[Any, ...]:
    """The distinct values of a typed target, sorted: numbers as such, whole ones without a decimal point, texts by code point."""
    import numpy as np

    if kind == "categorical":
        indices, values = dictionary_of(name, column)
        texts = [values[index] for index in np.unique(indices[indices >= 0])]
        return tuple(sorted(map(int, texts))) if all(map(_is_plain_integer, texts)) else tuple(sorted(texts))
    distinct = sorted(value for value in column.unique().to_pylist() if value is not None)
    return tuple(int(value) if isinstance(value, float) and value.is_integer() else value for value in distinct)


def class_ids(name: str, column: Any, kind: str, classes: tuple[Any, ...]) -> NDArray[np.int64]:
    """For each row, where in `classes` its target stands; -1 where it does not. (num_rows,)"""
    import numpy as np
    import pyarrow as pa

    if kind == "categorical":
        indices, values = dictionary_of(name, column)
        known = {str(value): number for number, value in enumerate(classes)}
        lookup = np.array([*(known.get(value, -1) for value in values), -1], dtype=np.int64)
        ids: NDArray[np.int64] = lookup[indices]
        return ids
    values = column.cast(pa.float64()).to_numpy()
    sorted_classes = np.array(classes, dtype=np.float64)
    nearest = np.minimum(np.searchsorted(sorted_classes, values), len(classes) - 1)
    return np.where(sorted_classes[nearest] == values, nearest, -1).astype(np.int64)


def refuse_new_classes(name: str, column: Any, kind: str, classes: tuple[Any, ...], advice: str) -> None:
    """Refuse targets that the training rows do not hold.

    Raises:
        DataError: names the class, how many rows have it, the classes there are, and `advice`.
    """
    unknown = column.filter(class_ids(name, column, kind, classes) < 0)
    if len(unknown):
        new = classes_of(name, unknown, kind)[0]
        rows = sum(value == new or value == str(new) for value in unknown.to_pylist())
        raise DataError(
            f"the class {new!r} of the target {name!r} has {rows:,} {'row' if rows == 1 else 'rows'}, none of them in the training split, "
            f"which has {listed(map(repr, classes))}; {advice}"
        )


def weights_of(name: str, column: Any, places: Places) -> NDArray[np.float32]:
    """The weights of rows, checked. float32 (num_rows,).

    Raises:
        DataError: one is missing, negative or too large for float32.
    """
    import numpy as np

    weights: NDArray[np.float64] = column.to_numpy()
    bad = np.flatnonzero(~((weights >= 0) & (weights <= np.finfo(np.float32).max)))
    if len(bad):
        first = int(bad[0])
        what = "missing" if np.isnan(weights[first]) else f"{weights[first]:g}"
        rows = f"{len(bad):,} {'row' if len(bad) == 1 else 'rows'} to correct"
        raise DataError(f"the weight {name!r} is {what} in {places.of(first)} ({rows}); give each row a number from 0 up")
    return weights.astype(np.float32)


def choose_target(raw: Raw, target: str | None, weight: str | None) -> str:
    """The name of the target, from the caller or from the sample.

    Raises:
        UsageError: neither names it, or it is the weight too.
        DataError: there is no such column, or only one.
    """
    chosen = target if target is not None else raw.target
    columns = list(raw.table.column_names)
    if chosen is None and len(columns) == 1:
        seen = perhaps_several(columns)
        raise DataError(f"{raw.name} has the one column {columns[0]!r}, and it takes one to predict and others to learn from{seen}")
    if chosen is None:
        given = "target='...' (on the command line --target)"
        raise UsageError(f"say which column to predict, as {given}. The columns of {raw.name}: {listed(columns)}")
    if chosen == weight:
        raise UsageError(f"{chosen!r} cannot be both target and weight; name two columns")
    if chosen not in columns:
        raise no_column("the target is", chosen, columns)
    return chosen
