import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import StandardScaler

from aimass.core.errors import DataError
from aimass.data.columns import BooleanColumn, CategoricalColumn, NumericColumn, column_from_json, column_to_json, standardisation
from aimass.data.values import Missing


def written(column, values, width):
    out = np.full((len(values), width), 7, dtype=np.float32)
    column.write(values, out)
    return out


def texts(values):
    return pa.chunked_array([pa.array(values).dictionary_encode()])


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_standardisation_is_that_of_scikit_learn(scale):
    values = np.random.default_rng(0).lognormal(size=(500, 1)) * scale
    scaler = StandardScaler().fit(values)
    column = NumericColumn.fit("x", pa.chunked_array([values[:, 0]]))
    assert np.allclose([column.mean, column.std], [scaler.mean_[0], scaler.scale_[0]], rtol=1e-12)
    theirs = scaler.transform(values).astype(np.float32)
    assert np.allclose(written(column, pa.chunked_array([values[:, 0]]), 1), theirs, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 3.3e10, -7.0])
def test_a_constant_column_has_the_deviation_one(value):
    assert standardisation("x", np.full(1000, value)) == (value, 1.0)


def test_noise_of_rounding_is_no_deviation():
    values = np.array([1e15, 1e15 + 0.125] * 500)
    assert standardisation("x", values)[1] == StandardScaler().fit(values[:, None]).scale_[0] == 1.0


def test_missing_numbers_are_the_mean_and_have_an_indicator():
    values = pa.chunked_array([[1.0, None, 3.0]])
    column = NumericColumn.fit("x", values)
    assert (column.mean, column.std, column.indicator, column.width) == (2.0, 1.0, True, 2)
    assert written(column, values, 2).tolist() == [[-1, 0], [0, 1], [1, 0]]


def test_without_missing_training_rows_there_is_no_indicator():
    column = NumericColumn.fit("x", pa.chunked_array([[1.0, 3.0]]))
    assert column.width == 1
    assert written(column, pa.chunked_array([[None, 3.0]]), 1).tolist() == [[0], [1]]


def test_a_column_that_is_missing_throughout_training():
    column = NumericColumn.fit("x", pa.chunked_array([pa.array([None, None], pa.float64())]))
    assert (column.mean, column.std) == (0.0, 1.0)
    assert BooleanColumn.fit("x", pa.chunked_array([pa.array([None], pa.bool_())])).mean == 0.0


def test_booleans_are_zero_and_one_and_their_share_where_missing():
    values = pa.chunked_array([[True, None], [False, True, True]])
    column = BooleanColumn.fit("x", values)
    assert (column.mean, column.indicator) == (0.75, True)
    assert written(column, values, 2).tolist() == [[1, 0], [0.75, 1], [0, 0], [1, 0], [1, 0]]


def test_categories_have_ids_and_so_have_missing_and_others():
    column = CategoricalColumn.fit("x", texts(["b", "a", None, "b"]))
    assert (column.categories, column.cardinality, column.missing_id) == (("a", "b"), 4, 3)
    assert column.encode(texts(["a", "b", None, "new"])).tolist() == [1, 2, 3, 0]


def test_missing_is_other_where_training_saw_none():
    column = CategoricalColumn.fit("x", texts(["b", "a"]))
    assert (column.cardinality, column.missing_id) == (3, 0)
    assert column.encode(texts([None, "b"])).tolist() == [0, 2]


def test_of_too_many_categories_the_frequent_ones_are_kept():
    column = CategoricalColumn.fit("x", texts(["d", "c", "b", "b", "a", "d", "d"]), most=3)
    assert column.categories == ("a", "b", "d")
    assert column.encode(texts(["c", "d"])).tolist() == [0, 3]
    many = CategoricalColumn.fit("x", texts([f"c{number:05}" for number in range(10_001)]))
    assert many.cardinality == 10_001


def test_categories_that_only_the_dictionary_knows_are_not_seen():
    whole = texts(["a", "b", "c"])
    assert CategoricalColumn.fit("x", whole.take(pa.array([0, 2]))).categories == ("a", "c")


@pytest.mark.parametrize("values", [[1e308, -1e308, 1e308], [1e200, -1e200]])
def test_numbers_too_large_for_a_variance_are_refused(values):
    with pytest.raises(DataError, match=r"column 'x' holds numbers up to 1e\+\d+, too large to compute with; scale them"):
        NumericColumn.fit("x", pa.chunked_array([values]))


def test_numbers_too_far_for_float32_are_refused_on_both_paths():
    column = NumericColumn.fit("x", pa.chunked_array([[0.0, 1.0]]))
    for value in (1e39, -1e300, 1e308):
        with pytest.raises(DataError, match=r"holds .*, too far from the training rows \(0.5 ± 0.5\)"):
            written(column, pa.chunked_array([[0.0, value]]), 1)
        with pytest.raises(DataError, match="too far from the training rows"):
            column.append(value, [], [], Missing())


@pytest.mark.parametrize(
    "column",
    [
        NumericColumn(name="x", mean=0.1, std=1 / 3, indicator=True),
        BooleanColumn(name="x", mean=0.1, indicator=False),
        CategoricalColumn(name="x", categories=("a", "ü"), missing=True),
    ],
)
def test_json_round_trip(column):
    assert column_from_json(json.loads(json.dumps(column_to_json(column)))) == column
