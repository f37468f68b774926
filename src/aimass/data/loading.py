"""From a file, a sample or a table to a data set: the steps in their order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.core.errors import DataError, UsageError, unknown_name
from aimass.data.conform import Reading, typed_column
from aimass.data.dataset import Dataset, Rows, SplitPlaces, fingerprint
from aimass.data.encoder import Encoder
from aimass.data.images import Files, Wanted, read_size
from aimass.data.infer import infer
from aimass.data.pixels import ImageColumn
from aimass.data.samples import SAMPLES
from aimass.data.schema import Schema, no_column, overrides
from aimass.data.source import Raw, open_source
from aimass.data.split import check_fractions, split_rows
from aimass.data.summary import describe_columns
from aimass.data.target import (
    choose_target,
    class_ids,
    classes_of,
    refuse_missing,
    refuse_new_classes,
    settle_task,
    target_kind,
    weights_of,
)
from aimass.data.text import TASK, load_text, means_text, text_rows
from aimass.data.values import Missing

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


def load(
    source: Any,
    target: str | None = None,
    *,
    schema: Mapping[str, str] | Schema | None = None,
    task: str | None = None,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    stratify: bool | None = None,
    seed: int = 0,
    weight: str | None = None,
    missing: Iterable[object] | str = (),
    image_size: int | Sequence[int] | str | None = None,
) -> Dataset:
    """Read rows, tell what their columns are, split them, and fit the encoder on the training rows.

    Args:
        source: the path of a CSV file; of a file of images in the format of MNIST, or a folder of image files with a folder for
            each class; a sample (`breast_cancer`, `diabetes`, `digits`, `iris`, `wine`); a dict of columns, a list of rows that are
            dicts, a pandas DataFrame or a pyarrow Table. A file wins over a sample of the same name. A `.txt` file, a folder of
            them and the sample `python_docs` are text, where no target is named.
        target: the column to predict. Samples call theirs `target`, and it may be left out.
        schema: column name → `numeric`, `categorical`, `boolean` or `ignored`, for columns whose kind is told wrongly.
        task: `binary`, `multiclass` or `regression`; told from the target where not given. `language` reads text: files, or the
            column `text` of a table.
        split: the shares of training, validation and test.
        stratify: whether each split gets its share of each class; None does so for classification.
        seed: decides which row goes where.
        weight: a column of numbers from 0 up: how much each row counts.
        missing: spellings of "missing" beyond the usual ones, such as `"?"` or `-999`.
        image_size: the height and width to which image files are resized, in pixels, such as 28 or `"28x32"`.

    Raises:
        NotFound: there is no such file or sample.
        DataError: the source cannot be read or not be trained on; the message says where and what to do.
        UsageError: an argument is off.

    >>> load("wine")
    Dataset(wine: 142 + 18 + 18 rows, 13 inputs, multiclass target 'target')
    """
    fractions, rules, size = check_fractions(split), Missing(missing), read_size(image_size)
    asked = {"task": task, "split": list(fractions), "stratify": stratify, "seed": seed, "weight": weight, "missing": list(rules.extra)}
    if means_text(source, target, task):
        _refuse_beside_text(schema=schema, stratify=stratify, weight=weight, image_size=image_size)
        return load_text(source, fractions, _origin(source, {"target": None, "task": TASK, "split": list(fractions)}))
    # 1. Read the source; tell what each column is, and what is to be predicted.
    raw = _open(source, size)
    target = choose_target(raw, target, weight)
    found, table = _typed(raw, schema, target, weight, rules)
    values, kind = table.column(target), found[target].kind
    refuse_missing(target, values, raw.places)
    task = settle_task(target, values, kind, task)
    # 2. Split, stratified by class where there are classes.
    classes = class_ids(target, values, kind, classes_of(target, values, kind)) if _stratified(stratify, task) else None
    parts = split_rows(table.num_rows, fractions, seed, classes, raw.num_test)
    # 3. Fit the encoder on the training rows alone.
    used = table.select([column.name for column in found if column.kind != "ignored"])
    encoder = Encoder.fit(used.take(parts[0]), found, task, target=target, weight=weight, missing=rules.extra, image=raw.image)
    _check_classes(encoder, values, kind)
    _check_inputs(raw, found, table, encoder, parts[0])
    # 4. Put it together.
    rows = [Rows(table=used.take(ids), ids=ids, encoder=encoder, places=SplitPlaces(whole=raw.places, ids=ids)) for ids in parts]
    settings = {"split": fractions, "stratified": classes is not None, "seed": seed, "target": target, "weight": weight, "task": task}
    return Dataset(
        name=raw.name,
        schema=found,
        target=target,
        task=task,
        encoder=encoder,
        train=rows[0],
        validation=rows[1],
        test=rows[2],
        fingerprint=fingerprint(table, found, settings),
        table=table,
        notes=_notes(rows, fractions),
        origin=_origin(source, {"target": target, "schema": _kinds(schema), **asked, **({"image_size": list(size)} if size else {})}),
    )


def read_rows(source: Any, encoder: Encoder, *, need_target: bool) -> Rows:
    """Read rows for a model that is trained: to evaluate on them, or to predict.

    Args:
        source: as for `load`.
        encoder: the model's; it says which columns there have to be, and what kind they are.
        need_target: whether the target has to be there. Where not, it is not even read.

    Raises:
        NotFound: there is no such file or sample.
        DataError: it cannot be read, or columns are absent (all are named).
    """
    import numpy as np

    if encoder.context:
        return text_rows(source, encoder)
    images = [column.shape for column in encoder.columns if isinstance(column, ImageColumn)]
    raw = open_source(source, Wanted(channels=images[0][0], size=images[0][1:]) if images else None)
    table = raw.table
    if need_target and encoder.target not in table.column_names:
        raise no_column("the target is", encoder.target, list(table.column_names))
    if not need_target:
        table = table.select([name for name in table.column_names if name not in (encoder.target, encoder.weight)])
    typed = encoder.conform(table, raw.places)
    if need_target:
        refuse_missing(encoder.target, typed.column(encoder.target), raw.places)
    return Rows(table=typed, ids=np.arange(typed.num_rows, dtype=np.int64), encoder=encoder, places=raw.places)


def describe(
    source: Any,
    target: str | None = None,
    *,
    schema: Mapping[str, str] | Schema | None = None,
    missing: Iterable[object] | str = (),
    **options: Any,
) -> dict[str, Any]:
    """Describe a source. Unlike `load` it needs no target; without one it tells of the columns alone.

    Args:
        source: as for `load`.
        target: the column to predict, if there is one.
        schema: as for `load`.
        missing: as for `load`.
        options: the others of `load`; without a target they say nothing about the columns.

    Raises:
        NotFound: there is no such file or sample.
        DataError: the source cannot be read, or with a target not be trained on.
        UsageError: `load` has no such option.

    >>> describe({"age": [41, None, 29]})["columns"]["age"]
    {'kind': 'numeric', 'missing': 1, 'distinct': 2, 'min': 29.0, 'max': 41.0, 'mean': 35.0, 'notes': []}
    """
    known = load.__kwdefaults__ or {}
    for option in options:
        if option not in known:
            raise unknown_name("option", option, known)
    if means_text(source, target, options.get("task")):
        return load(source, target, schema=schema, **options).describe()
    raw = open_source(source, Wanted(size=read_size(options.get("image_size"))))
    if target is not None or raw.target is not None:
        return load(raw, target, schema=schema, missing=missing, **options).describe()
    found, table = infer(raw, overrides(schema, list(raw.table.column_names)), Missing(missing))
    columns = describe_columns(table, found.columns)
    return {
        "name": raw.name,
        "rows": table.num_rows,
        "target": None,
        "task": None,
        "columns": columns,
        "classes": None,
        "split": None,
        "notes": [],
    }


def _open(source: Any, size: tuple[int, int] | None) -> Raw:
    """The rows of a source, of which there have to be enough to be split."""
    raw = open_source(source, Wanted(size=size))
    if size is not None and not isinstance(raw.places, Files):
        raise UsageError(f"image_size resizes image files, and {raw.name} has none; leave it out")
    if raw.table.num_rows < 2:
        raise DataError(f"{raw.name} has one row; give at least 2 to train on, and 10 or more to have a validation and a test split")
    return raw


def _typed(
    raw: Raw, schema: Mapping[str, str] | Schema | None, target: str, weight: str | None, missing: Missing
) -> tuple[Schema, pa.Table]:
    """Every column with its kind. The target is used whatever its name, and keeps the spelling of its classes."""
    columns = list(raw.table.column_names)
    if weight is not None and weight not in columns:
        raise no_column("the weight is", weight, columns)
    said = overrides(schema, columns)
    if said.get(target) == "ignored":
        raise UsageError(f"the target {target!r} cannot be ignored; take it out of the schema, or choose another target")
    settled = said if weight is None else said | {weight: "numeric"}
    found, table = infer(raw, settled, missing, kept=frozenset({target}))
    kind = found[target].kind
    if kind == "image":
        raise DataError(f"the target {target!r} holds images, which cannot be predicted; choose another")
    if kind == "ignored":
        raise DataError(f"the target {target!r} cannot be predicted ({found[target].note.removeprefix('ignored: ')}); choose another")
    spelled = kind if target in said else target_kind(raw, target, kind, missing)
    if spelled != kind:
        found = Schema(replace(column, kind=spelled) if column.name == target else column for column in found)
        retyped = typed_column(target, raw.table.column(target), spelled, Reading(missing=missing, places=raw.places))
        table = table.set_column(table.column_names.index(target), target, retyped)
    return found, table


def _check_classes(encoder: Encoder, values: pa.ChunkedArray, kind: str) -> None:
    """Refuse classes of which no training row tells."""
    if encoder.classes is not None:
        refuse_new_classes(encoder.target, values, kind, encoder.classes, "keep stratify=True, or remove those rows")


def _check_inputs(raw: Raw, found: Schema, table: pa.Table, encoder: Encoder, train: NDArray[np.int64]) -> None:
    """Refuse what could not be learned from: no inputs, or weights that count no training row."""
    if not encoder.features:
        notes = "; ".join(f"{column.name!r}: {column.note or column.kind}" for column in found if column.kind == "ignored")
        because = f" ({notes})" if notes else ""
        raise DataError(f"{raw.name} has no column to learn from besides the target{because}; add columns, or say their kinds with schema=")
    if encoder.weight is not None and not weights_of(encoder.weight, table.column(encoder.weight), raw.places)[train].any():
        raise DataError(f"the weight {encoder.weight!r} is 0 in every training row; give some rows a weight above 0")


def _refuse_beside_text(**options: Any) -> None:
    given = next((name for name, value in options.items() if value), None)
    if given is not None:
        raise UsageError(f"{given} says something of columns, and text has none; leave it out, or name the target of a table")


def _kinds(schema: Mapping[str, str] | Schema | None) -> dict[str, str]:
    return schema.kinds if isinstance(schema, Schema) else dict(schema or {})


def _origin(source: Any, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments that load the same data again, where they come from a file or a sample."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = Path(source).expanduser()
    is_path = path.is_file() or (path.exists() and str(source) not in SAMPLES)
    return {"source": str(path.resolve()) if is_path else str(source), **asked}


def _stratified(stratify: bool | None, task: str) -> bool:
    if stratify and task == "regression":
        raise UsageError("stratify=True needs classes, and this is regression; leave stratify out")
    return task != "regression" if stratify is None else stratify


def _notes(rows: list[Rows], fractions: tuple[float, float, float]) -> tuple[str, ...]:
    empty = [name for name, part, share in zip(("validation", "test"), rows[1:], fractions[1:], strict=True) if share and not len(part)]
    return (f"too few rows for a {' and a '.join(empty)} split: none were set aside",) if empty else ()
