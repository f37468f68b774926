"""The data sets that ship with scikit-learn, as tables. Nothing is downloaded."""

from __future__ import annotations

from aimass.data.source import Raw

SAMPLES = ("breast_cancer", "diabetes", "digits", "iris", "wine")
TARGET = "target"


def read_sample(name: str) -> Raw:
    """One data set of scikit-learn, with the column to predict under the name `target`.

    Classes go by their names where scikit-learn has them; those of `digits` are the numbers 0 to 9.

    >>> read_sample("iris").table.column_names[-1]
    'target'
    """
    import numpy as np
    import pyarrow as pa
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    columns = {
        str(feature): pa.array(np.ascontiguousarray(values)) for feature, values in zip(bunch.feature_names, bunch.data.T, strict=True)
    }
    classes = getattr(bunch, "target_names", None)
    columns[TARGET] = (
        pa.array([str(classes[number]) for number in bunch.target])
        if classes is not None and classes.dtype.kind in "US"
        else pa.array(bunch.target)
    )
    return Raw(name=name, table=pa.table(columns), target=TARGET)
