"""The encoder: raw rows to a model's inputs. Fitted on training rows alone, saved as JSON, the same for a column and for a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from aimass.core.errors import DataError
from aimass.data.batch import Encoded
from aimass.data.columns import (
    COLUMN_TYPES,
    CategoricalColumn,
    FeatureColumn,
    NumericColumn,
    column_from_json,
    column_to_json,
    image_of,
    standardisation,
)
from aimass.data.conform import Reading, conform
from aimass.data.pixels import ImageColumn
from aimass.data.schema import Schema
from aimass.data.source import Places, RowNumbers
from aimass.data.target import class_ids, classes_of, refuse_missing, refuse_new_classes, weights_of
from aimass.data.text import NUM_BYTES, TextColumn
from aimass.data.unfit import absent_columns, unfit_value
from aimass.data.values import Missing

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Turns rows into numbers and ids, and targets into class ids or standardised values.

    Args:
        columns: the input columns, in the order in which their numbers and ids stand.
        task: `binary`, `multiclass` or `regression`.
        target: the name of the column to predict.
        target_kind: its kind.
        classes: the original values of the classes by their id; None for regression.
        target_mean: of the training rows, in the target's unit; None for classification.
        target_std: of the training rows, in the target's unit; None for classification.
        weight: the name of the column of weights, or None.
        missing_values: spellings of "missing" beyond the usual ones.
        image: channels, height and width, where a row's numbers are the pixels of one image in that order; else None.

    >>> import pyarrow as pa
    >>> table = pa.table({"age": [20.0, 40.0], "plan": ["gold", "free"], "churn": ["no", "yes"]})
    >>> from aimass.data.schema import Column
    >>> kinds = {"age": "numeric", "plan": "categorical", "churn": "categorical"}
    >>> schema = Schema(Column(name=name, kind=kind) for name, kind in kinds.items())
    >>> encoder = Encoder.fit(table, schema, "binary", target="churn")
    >>> encoder.encode_row({"age": 40, "plan": "gold"})
    ([1.0], [2])
    >>> encoder.encode(table).numbers.tolist(), encoder.classes
    ([[-1.0], [1.0]], ('no', 'yes'))
    """

    columns: tuple[FeatureColumn, ...]
    task: str
    target: str
    target_kind: str
    classes: tuple[Any, ...] | None = None
    target_mean: float | None = None
    target_std: float | None = None
    weight: str | None = None
    missing_values: tuple[str, ...] = ()
    image: tuple[int, int, int] | None = None

    @classmethod
    def fit(
        cls,
        table: pa.Table,
        schema: Schema,
        task: str,
        *,
        target: str,
        weight: str | None = None,
        missing: Iterable[object] | str = (),
        image: tuple[int, int, int] | None = None,
    ) -> Self:
        """Fit on rows, which are to be the training rows and no others.

        Args:
            table: raw or typed columns.
            schema: the kind of each column. Ignored ones, the target and the weight are no inputs.
            task: `binary`, `multiclass` or `regression`.
            target: the column to predict.
            weight: the column of weights.
            missing: spellings of "missing" beyond the usual ones.
            image: channels, height and width, where the columns are pixels. It is kept where every pixel is in use as one number.

        Raises:
            DataError: a value that its column cannot hold.
        """
        rules = Missing(missing)
        names = [column.name for column in schema if column.kind != "ignored" and column.name not in (target, weight)]
        typed = conform(table, {name: schema[name].kind for name in (*names, target)}, Reading(missing=rules))
        classes = mean = std = None
        if task == "regression":
            mean, std = standardisation(target, typed.column(target).to_numpy())
        else:
            classes = classes_of(target, typed.column(target), schema[target].kind)
        columns = tuple(COLUMN_TYPES[schema[name].kind].fit(name, typed.column(name)) for name in names)
        return cls(
            columns=columns,
            task=task,
            target=target,
            target_kind=schema[target].kind,
            classes=classes,
            target_mean=mean,
            target_std=std,
            weight=weight,
            missing_values=rules.extra,
            image=image_of(columns, image),
        )

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The names of the input columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def num_numbers(self) -> int:
        """How many numbers a row becomes."""
        return sum(column.width for column in self.columns)

    @cached_property
    def cardinalities(self) -> tuple[int, ...]:
        """How many ids each categorical column has, in order."""
        if self.context:
            return (NUM_BYTES,) * self.context
        return tuple(column.cardinality for column in self.columns if isinstance(column, CategoricalColumn))

    @cached_property
    def context(self) -> int:
        """How many bytes of text a row has; 0 where it has none."""
        return 0 if self._text is None else self._text.context

    @cached_property
    def _text(self) -> TextColumn | None:
        first = self.columns[0] if self.columns else None
        return first if isinstance(first, TextColumn) else None

    @cached_property
    def has_images(self) -> bool:
        """Whether a column holds images."""
        return any(isinstance(column, ImageColumn) for column in self.columns)

    @cached_property
    def missing(self) -> Missing:
        """Which values are missing ones."""
        return Missing(self.missing_values)

    def decode_class(self, number: int) -> Any:
        """The original value of the class with the id `number`."""
        assert self.classes is not None, "regression has no classes"
        return self.classes[number]

    def encode(self, table: pa.Table, *, rows: NDArray[np.int64] | None = None, places: Places | None = None) -> Encoded:
        """Encode rows by column.

        Args:
            table: raw or typed columns; the target and the weight may be absent.
            rows: the id of each row; 0, 1, … where not given. int64 (num_rows,).
            places: where a row stands, for messages.

        Raises:
            DataError: input columns are absent (all are named), a value cannot be held, or a class is not known.
        """
        import numpy as np

        if self._text is not None:
            return self._text.encode(table.column(self._text.name), rows)
        places = places or RowNumbers()
        typed = self.conform(table, places)
        numbers = np.empty((typed.num_rows, self.num_numbers), dtype=np.float32)
        categories = np.empty((typed.num_rows, len(self.cardinalities)), dtype=np.int64)
        number = category = 0
        for column in self.columns:
            if isinstance(column, CategoricalColumn):
                categories[:, category] = column.encode(typed.column(column.name))
                category += 1
            elif not isinstance(column, TextColumn):
                column.write(typed.column(column.name), numbers[:, number : number + column.width])
                number += column.width
        present = typed.column_names
        weights = weights_of(self.weight, typed.column(self.weight), places) if self.weight is not None and self.weight in present else None
        return Encoded(
            numbers=numbers,
            categories=categories,
            targets=self._targets(typed.column(self.target), places) if self.target in present else None,
            rows=np.arange(typed.num_rows, dtype=np.int64) if rows is None else rows,
            weights=weights,
        )

    def conform(self, table: pa.Table, places: Places | None = None) -> pa.Table:
        """The columns that the encoder uses, typed: inputs, and target and weight where they are there.

        Raises:
            DataError: input columns are absent, or a value cannot be held.
        """
        absent = [name for name in self.features if name not in table.column_names]
        if absent:
            raise absent_columns(absent, table.column_names)
        kinds = {column.name: column.kind for column in self.columns} | {self.target: self.target_kind}
        if self.weight is not None:
            kinds[self.weight] = "numeric"
        return conform(table, kinds, Reading(missing=self.missing, places=places or RowNumbers(), fitted=True))

    def encode_row(self, row: Mapping[str, Any]) -> tuple[list[float], list[int]]:
        """Encode one row by value, without NumPy and Arrow. As float32 its numbers equal those of `encode`.

        Args:
            row: a value for each input column; None, NaN and the spellings of "missing" are missing. Other keys are ignored.

        Returns:
            the numbers (num_numbers) and the category ids (num_categories).

        Raises:
            DataError: input columns are absent (all are named), or a value cannot be held.
        """
        numbers: list[float] = []
        categories: list[int] = []
        missing = self.missing
        column = None
        try:
            for column in self.columns:
                column.append(row[column.name], numbers, categories, missing)
        except KeyError:
            absent = [name for name in self.features if name not in row]
            if not absent:
                raise
            raise absent_columns(absent, list(row)) from None
        except ValueError as error:
            assert column is not None
            raise unfit_value(column.name, column.kind, row[column.name], error) from None
        return numbers, categories

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> Encoded:
        """Encode rows given one by one. They have neither targets nor weights.

        Raises:
            DataError: as `encode_row`, with the number of the row, counted from 0.
        """
        import numpy as np

        numbers = np.empty((len(rows), self.num_numbers), dtype=np.float32)
        categories = np.empty((len(rows), len(self.cardinalities)), dtype=np.int64)
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise DataError(f"row {number} is of type {type(row).__name__}; a row is a dict of column names and values")
            try:
                numbers[number], categories[number] = self.encode_row(row)
            except DataError as error:
                raise DataError(f"row {number}: {error}") from None
        return Encoded(numbers=numbers, categories=categories, targets=None, rows=np.arange(len(rows), dtype=np.int64))

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        target = {
            "name": self.target,
            "kind": self.target_kind,
            "classes": None if self.classes is None else list(self.classes),
            "mean": self.target_mean,
            "std": self.target_std,
        }
        return {
            "version": FORMAT_VERSION,
            "task": self.task,
            "target": target,
            "weight": self.weight,
            "missing": list(self.missing_values),
            "image": None if self.image is None else list(self.image),
            "columns": [column_to_json(column) for column in self.columns],
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """The encoder that `to_json` wrote.

        Raises:
            DataError: it was written by a later release, or is damaged.
        """
        try:
            if saved["version"] > FORMAT_VERSION:
                raise DataError(f"this encoder was saved by a later release (format {saved['version']}); install a newer aimass to read it")
            target = saved["target"]
            return cls(
                columns=tuple(column_from_json(column) for column in saved["columns"]),
                task=saved["task"],
                target=target["name"],
                target_kind=target["kind"],
                classes=None if target["classes"] is None else tuple(target["classes"]),
                target_mean=target["mean"],
                target_std=target["std"],
                weight=saved["weight"],
                missing_values=tuple(saved["missing"]),
                image=None if saved.get("image") is None else tuple(saved["image"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"this encoder is damaged ({type(error).__name__}: {error}); save the model again") from None

    def _targets(self, column: Any, places: Places) -> NDArray[Any]:
        """Class ids, int64 (num_rows,), or standardised values, float32 (num_rows,)."""
        import numpy as np

        refuse_missing(self.target, column, places)
        if self.classes is None:
            assert self.target_mean is not None
            assert self.target_std is not None
            scaled = np.empty((len(column), 1), dtype=np.float32)
            NumericColumn(name=self.target, mean=self.target_mean, std=self.target_std, indicator=False).write(column, scaled)
            return scaled[:, 0]
        refuse_new_classes(self.target, column, self.target_kind, self.classes, "remove those rows, or train with some of them")
        return class_ids(self.target, column, self.target_kind, self.classes)
