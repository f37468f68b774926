"""How one column becomes numbers or an id: fitted on training rows, by column for training and by value for one row.

Both paths take the same float64 steps in the same order and round to float32 last, so that they agree to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aimass.core.errors import DataError
from aimass.data.conform import dictionary_of
from aimass.data.pixels import ImageColumn
from aimass.data.text import TextColumn
from aimass.data.values import Missing, boolean, category, number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_CATEGORIES = 10_000
_LARGEST = 3.4028234663852886e38  # of float32


@dataclass(frozen=True, kw_only=True)
class NumericColumn:
    """A number, standardised: (x − mean) / std, and 0 where it is missing.

    Args:
        name: of the column.
        mean: of the training rows, in the column's own unit.
        std: the population standard deviation of the training rows, in the column's own unit; 1 where they are all the same.
        indicator: whether a second number tells missing (1) from present (0): training rows had missing values.
    """

    name: str
    mean: float
    std: float
    indicator: bool

    kind = "numeric"

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return 2 if self.indicator else 1

    @classmethod
    def fit(cls, name: str, column: Any) -> NumericColumn:
        """Fit on the training rows, typed.

        Raises:
            DataError: the numbers are too large for their mean to exist.
        """
        mean, std = standardisation(name, column.to_numpy())
        return cls(name=name, mean=mean, std=std, indicator=column.null_count > 0)

    def write(self, column: Any, out: NDArray[np.float32]) -> None:
        """Encode a typed column into `out`, float32 (num_rows, width).

        Raises:
            DataError: a number is too far from the mean for float32.
        """
        import numpy as np

        values = column.to_numpy()
        with np.errstate(over="ignore"):
            scaled = (values - self.mean) / self.std
        absent = np.isnan(values)
        far = np.flatnonzero(np.abs(scaled) > _LARGEST)
        if len(far):
            raise self._too_far(float(values[far[0]]))
        scaled[absent] = 0.0
        out[:, 0] = scaled
        if self.indicator:
            out[:, 1] = absent

    def append(self, value: Any, numbers: list[float], categories: list[int], missing: Missing) -> None:
        """Encode one value. Raises ValueError with the end of a sentence, or DataError with a whole one."""
        kind = type(value)
        if not (kind is float or kind is int) or missing.numbers or not -_LARGEST < value < _LARGEST:
            value = number(value, missing)
        if value is None:
            numbers.append(0.0)
        else:
            scaled = (value - self.mean) / self.std
            if not -_LARGEST <= scaled <= _LARGEST:
                raise self._too_far(value)
            numbers.append(scaled)
        if self.indicator:
            numbers.append(1.0 if value is None else 0.0)

    def _too_far(self, value: float) -> DataError:
        return DataError(f"column {self.name!r} holds {value!r}, too far from the training rows ({self.mean:g} ± {self.std:g}); correct it")


@dataclass(frozen=True, kw_only=True)
class BooleanColumn:
    """True is 1 and false is 0; the share of true ones among the training rows where it is missing.

    Args:
        name: of the column.
        mean: the share of true ones among the training rows.
        indicator: whether a second number tells missing (1) from present (0): training rows had missing values.
    """

    name: str
    mean: float
    indicator: bool

    kind = "boolean"

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return 2 if self.indicator else 1

    @classmethod
    def fit(cls, name: str, column: Any) -> BooleanColumn:
        """Fit on the training rows, typed."""
        present = column.drop_null()
        mean = sum(chunk.true_count for chunk in present.chunks) / len(present) if len(present) else 0.0
        return cls(name=name, mean=mean, indicator=column.null_count > 0)

    def write(self, column: Any, out: NDArray[np.float32]) -> None:
        """Encode a typed column into `out`, float32 (num_rows, width)."""
        import numpy as np
        import pyarrow as pa

        values = column.cast(pa.float64()).to_numpy()
        absent = np.isnan(values)
        out[:, 0] = np.where(absent, self.mean, values)
        if self.indicator:
            out[:, 1] = absent

    def append(self, value: Any, numbers: list[float], categories: list[int], missing: Missing) -> None:
        """Encode one value. Raises ValueError with the end of a sentence."""
        found = value if value is True or value is False else boolean(value, missing)
        numbers.append(self.mean if found is None else float(found))
        if self.indicator:
            numbers.append(1.0 if found is None else 0.0)


@dataclass(frozen=True, kw_only=True)
class CategoricalColumn:
    """An id: 0 for a category that training did not see or that was too rare, then the categories, then "missing".

    Args:
        name: of the column.
        categories: the texts with the ids 1, 2, …
        missing: whether "missing" has the last id: training rows had missing values. Where not, it is 0 too.
    """

    name: str
    categories: tuple[str, ...]
    missing: bool
    ids: dict[str, int] = field(init=False, repr=False, compare=False)

    kind = "categorical"
    width = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", {text: number for number, text in enumerate(self.categories, start=1)})

    @property
    def cardinality(self) -> int:
        """How many ids there are."""
        return 1 + len(self.categories) + self.missing

    @property
    def missing_id(self) -> int:
        """The id of a missing value."""
        return self.cardinality - 1 if self.missing else 0

    @classmethod
    def fit(cls, name: str, column: Any, most: int = MOST_CATEGORIES) -> CategoricalColumn:
        """Fit on the training rows, typed. Of more than `most` categories the most frequent ones are kept."""
        import numpy as np

        indices, values = dictionary_of(name, column)
        counts = np.bincount(indices[indices >= 0], minlength=len(values))
        seen = [index for index in range(len(values)) if counts[index]]
        seen.sort(key=lambda index: (-counts[index], values[index]))
        kept = sorted(values[index] for index in seen[:most])
        return cls(name=name, categories=tuple(kept), missing=bool((indices < 0).any()))

    def encode(self, column: Any) -> NDArray[np.int64]:
        """The ids of a typed column. int64 (num_rows,)."""
        import numpy as np

        indices, values = dictionary_of(self.name, column)
        lookup = np.array([*(self.ids.get(value, 0) for value in values), self.missing_id], dtype=np.int64)
        found: NDArray[np.int64] = lookup[indices]
        return found

    def append(self, value: Any, numbers: list[float], categories: list[int], missing: Missing) -> None:
        """Encode one value. Raises ValueError with the end of a sentence."""
        found = self.ids.get(value) if type(value) is str else None
        if found is None:
            text = category(value, missing)
            found = self.missing_id if text is None else self.ids.get(text, 0)
        categories.append(found)


FeatureColumn = NumericColumn | BooleanColumn | CategoricalColumn | ImageColumn | TextColumn
COLUMN_TYPES: dict[str, type[FeatureColumn]] = {
    "numeric": NumericColumn,
    "boolean": BooleanColumn,
    "categorical": CategoricalColumn,
    "image": ImageColumn,
    "text": TextColumn,
}


def column_to_json(column: FeatureColumn) -> dict[str, Any]:
    """A fitted column, as JSON can hold it."""
    fields = {name: getattr(column, name) for name, spec in column.__dataclass_fields__.items() if spec.init}
    return {"kind": column.kind} | {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def column_from_json(saved: Mapping[str, Any]) -> FeatureColumn:
    """The column that `column_to_json` wrote. Raises KeyError or TypeError where it did not."""
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items() if name != "kind"}
    return COLUMN_TYPES[saved["kind"]](**fields)


def image_of(columns: Sequence[FeatureColumn], said: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    """Channels, height and width of the image that a row's numbers are; None where they are none.

    Args:
        columns: the fitted inputs.
        said: what the source says of them, before some were left out.
    """
    if len(columns) == 1 and isinstance(columns[0], ImageColumn):
        return columns[0].shape
    whole = said is not None and len(columns) == math.prod(said)
    return said if whole and all(column.kind == "numeric" and column.width == 1 for column in columns) else None


def standardisation(name: str, values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and population standard deviation of the values that are there, in float64.

    The deviation is 1 where all values are the same, up to the rounding of their sum.

    Args:
        name: of the column, for messages.
        values: with NaN for missing ones. (num_rows,)

    Raises:
        DataError: they are too large for their variance to be a number.
    """
    import numpy as np

    present = values[~np.isnan(values)]
    if len(present) == 0:
        return 0.0, 1.0
    if present.min() == present.max():
        return float(present[0]), 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(present.mean())
        std = float(np.sqrt(np.square(present - mean).mean()))
    if not np.isfinite(mean) or not np.isfinite(std):
        raise DataError(
            f"column {name!r} holds numbers up to {np.abs(present).max():g}, too large to compute with; scale them, or take their logarithm"
        )
    rounding = np.finfo(np.float64).eps * len(present) * abs(mean)
    return mean, std if std > rounding else 1.0
