"""The data sets that ship with scikit-learn, and a text that ships with Python. Nothing is downloaded.

The files of scikit-learn are read, and it is not imported: that would cost every process a second and 80 MB. The tests hold the
tables against it.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.core.errors import DataError
from aimass.data.source import Raw

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS = ("python_docs",)
SAMPLES = ("breast_cancer", "diabetes", "digits", "iris", *TEXTS, "wine")
TARGET = "target"

_CELLS = [
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
]
_FEATURES = {
    "breast_cancer": [f"mean {of}" for of in _CELLS] + [f"{of} error" for of in _CELLS] + [f"worst {of}" for of in _CELLS],
    "diabetes": ["age", "sex", "bmi", "bp", *(f"s{number}" for number in range(1, 7))],
    "digits": [f"pixel_{row}_{column}" for row in range(8) for column in range(8)],
    "iris": [f"{part} {extent} (cm)" for part in ("sepal", "petal") for extent in ("length", "width")],
    "wine": [
        "alcohol",
        "malic_acid",
        "ash",
        "alcalinity_of_ash",
        "magnesium",
        "total_phenols",
        "flavanoids",
        "nonflavanoid_phenols",
        "proanthocyanins",
        "color_intensity",
        "hue",
        "od280/od315_of_diluted_wines",
        "proline",
    ],
}
_IMAGES = {"digits": (1, 8, 8)}
_CLASSES_IN_THE_FIRST_LINE = {"breast_cancer": "breast_cancer.csv", "iris": "iris.csv", "wine": "wine_data.csv"}


def read_sample(name: str) -> Raw:
    """One data set of scikit-learn, with the column to predict under the name `target`.

    Classes go by their names where scikit-learn has them; those of `digits` are the numbers 0 to 9.

    Raises:
        DataError: scikit-learn is not installed, or came without its data.

    >>> read_sample("iris").table.column_names[-1]
    'target'
    """
    import pyarrow as pa

    if name in TEXTS:
        return Raw(name=name, table=pa.table({"text": _topics()}))
    if name in _CLASSES_IN_THE_FIRST_LINE:
        (_, _, *classes), *lines = csv.reader(io.StringIO(_text(_CLASSES_IN_THE_FIRST_LINE[name])))
        values, target = _numbers(line[:-1] for line in lines), pa.array([classes[int(line[-1])] for line in lines])
    elif name == "digits":
        both = _numbers(csv.reader(io.StringIO(_text("digits.csv.gz"))))
        values, target = both[:, :-1], pa.array(both[:, -1].astype(int))
    else:
        values = _unit_columns(_numbers(line.split() for line in _text("diabetes_data_raw.csv.gz").splitlines()))
        target = pa.array([float(line) for line in _text("diabetes_target.csv.gz").splitlines()])
    columns = {feature: pa.array(column.copy()) for feature, column in zip(_FEATURES[name], values.T, strict=True)}
    return Raw(name=name, table=pa.table({**columns, TARGET: target}), target=TARGET, image=_IMAGES.get(name))


def _topics() -> list[str]:
    """The help on Python's language, by topic: half a megabyte of prose and examples. It is that of the Python which runs."""
    try:
        topics: dict[str, str] = import_module("pydoc_data.topics").topics
    except ImportError:
        raise DataError("the sample python_docs is the help that ships with Python (pydoc_data), and this Python came without it") from None
    return [topics[name] for name in sorted(topics)]


def _text(file: str) -> str:
    found = importlib.util.find_spec("sklearn")
    path = Path(found.origin or "").parent / "datasets" / "data" / file if found else None
    if path is None or not path.exists():
        raise DataError("the samples ship with scikit-learn, which is not there or came without its data; pip install scikit-learn")
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()


def _numbers(lines: Iterable[list[str]]) -> NDArray[np.float64]:
    import numpy as np

    return np.array(list(lines), dtype=np.float64)


def _unit_columns(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of mean 0 and length 1, as scikit-learn gives them."""
    centred: NDArray[np.float64] = values - values.mean(axis=0)
    length: NDArray[np.float64] = (centred**2).sum(axis=0) ** 0.5
    return centred / length
