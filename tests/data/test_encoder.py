import json
import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.core.errors import DataError
from aimass.data import Column, Encoder, Schema, load

KINDS = {"age": "numeric", "member": "boolean", "plan": "categorical", "zip": "categorical", "churn": "categorical", "w": "numeric"}
SCHEMA = Schema(Column(name=name, kind=kind) for name, kind in KINDS.items())
TRAINING = pa.table(
    {
        "age": [20.0, 40.5, None, 61.25],
        "member": [True, None, False, True],
        "plan": ["gold", "free", None, "gold"],
        "zip": ["10115", "0", "1.5", "True"],
        "churn": ["no", "yes", "no", "yes"],
        "w": [1.0, 2.0, 0.0, 0.5],
    }
)
ENCODER = Encoder.fit(TRAINING, SCHEMA, "binary", target="churn", weight="w", missing=["?", -1])

NUMBERS = st.one_of(
    st.none(), st.floats(allow_infinity=False, width=64, min_value=-1e35, max_value=1e35), st.integers(-(2**62), 2**62), st.just(-1)
)
TEXTS = st.sampled_from(["gold", "free", " gold ", "silver", "", "NA", "?", "10115", "1.5", "Gold", "  "])
ROW = st.fixed_dictionaries(
    {
        "age": NUMBERS,
        "member": st.sampled_from([True, False, None]),
        "plan": st.one_of(st.none(), TEXTS),
        "zip": st.one_of(st.none(), st.text(max_size=5)),
    }
)


def agree(encoder, rows, table):
    by_row, by_column = encoder.encode_rows(rows), encoder.encode(table)
    assert by_row.numbers.tobytes() == by_column.numbers.tobytes()
    assert np.array_equal(by_row.categories, by_column.categories)
    for number, row in enumerate(rows):
        numbers, categories = encoder.encode_row(row)
        assert np.array(numbers, dtype=np.float32).tobytes() == by_column.numbers[number].tobytes()
        assert categories == by_column.categories[number].tolist()


@settings(deadline=None)
@given(st.lists(ROW, min_size=1, max_size=8))
def test_one_row_and_columns_agree_to_the_bit(rows):
    table = pa.table(
        {
            "age": pa.array([None if row["age"] is None else float(row["age"]) for row in rows], pa.float64()),
            "member": pa.array([row["member"] for row in rows], pa.bool_()),
            "plan": pa.array([row["plan"] for row in rows], pa.string()),
            "zip": pa.array([row["zip"] for row in rows], pa.string()),
        }
    )
    agree(ENCODER, rows, table)


NUMBER_TEXTS = st.one_of(
    st.floats(-1e35, 1e35).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["", "NA", "?", " 7 ", "+1.", "-1", "-1.0", ".5e3", "nan"]),
)
TEXT_ROW = st.fixed_dictionaries(
    {
        "age": NUMBER_TEXTS,
        "member": st.sampled_from(["yes", "No", " t", "FALSE", "1", "0", "", "NA", "?"]),
        "plan": TEXTS,
        "zip": st.text(max_size=5),
    }
)


@settings(deadline=None)
@given(st.lists(TEXT_ROW, min_size=1, max_size=8))
def test_text_means_the_same_in_a_request_as_in_a_file(rows):
    agree(ENCODER, rows, pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in rows[0]}))


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(-1e15, 1e15), st.integers(-(2**50), 2**50)), min_size=2, max_size=8))
def test_fitted_to_any_numbers_both_paths_agree(values):
    table = pa.table({"x": pa.array([float(value) for value in values], pa.float64()), "y": [float(n) for n in range(len(values))]})
    schema = Schema([Column(name="x", kind="numeric"), Column(name="y", kind="numeric")])
    agree(Encoder.fit(table, schema, "regression", target="y"), [{"x": value} for value in values], table)


def test_columns_of_other_types_agree():
    table = pa.table(
        {
            "age": pa.array([1, 2], pa.int32()),
            "member": pa.array([0, 1]),
            "plan": pa.array(["gold", "free"]).dictionary_encode(),
            "zip": [10115.0, 1.5],
        }
    )
    rows = [
        {"age": 1, "member": 0, "plan": "gold", "zip": 10115},
        {"age": np.int64(2), "member": np.True_, "plan": "free", "zip": np.float64(1.5)},
    ]
    agree(ENCODER, rows, table)
    assert ENCODER.encode(table).categories[:, 1].min() > 0


def test_the_layout():
    assert ENCODER.features == ("age", "member", "plan", "zip")
    assert ENCODER.num_numbers == 4
    assert ENCODER.cardinalities == (4, 5)
    assert (ENCODER.classes, ENCODER.decode_class(1), ENCODER.target_mean) == (("no", "yes"), "yes", None)


def test_arrays_are_what_a_model_expects():
    encoded = ENCODER.encode(TRAINING, rows=np.array([9, 8, 7, 6]))
    assert (encoded.numbers.dtype, encoded.numbers.shape, encoded.numbers.flags.c_contiguous) == (np.float32, (4, 4), True)
    assert (encoded.categories.dtype, encoded.categories.shape) == (np.int64, (4, 2))
    assert (encoded.targets.dtype, encoded.targets.tolist()) == (np.int64, [0, 1, 0, 1])
    assert (encoded.weights.dtype, encoded.weights.tolist()) == (np.float32, [1.0, 2.0, 0.0, 0.5])
    assert encoded.rows.tolist() == [9, 8, 7, 6]
    assert len(encoded) == 4


def test_regression_targets_are_standardised():
    schema = Schema([Column(name="x", kind="numeric"), Column(name="y", kind="numeric")])
    table = pa.table({"x": [1.0, 2.0, 3.0], "y": [10.0, 20.0, 60.0]})
    encoder = Encoder.fit(table, schema, "regression", target="y")
    encoded = encoder.encode(table)
    assert encoder.classes is None
    assert encoder.target_mean == 30.0
    assert encoder.target_std == pytest.approx(np.std([10, 20, 60]))
    assert encoded.targets.dtype == np.float32
    assert np.allclose(encoded.targets * encoder.target_std + encoder.target_mean, [10, 20, 60])
    with pytest.raises(DataError, match=r"column 'y' holds 1e\+300, too far"):
        encoder.encode(pa.table({"x": [1.0], "y": [1e300]}))


@pytest.mark.parametrize("sample", ["iris", "digits", "diabetes"])
def test_json_round_trip(sample):
    encoder = load(sample).encoder
    assert Encoder.from_json(json.loads(json.dumps(encoder.to_json(), allow_nan=False))) == encoder


def test_json_keeps_everything():
    saved = json.loads(json.dumps(ENCODER.to_json()))
    again = Encoder.from_json(saved)
    assert again == ENCODER
    assert again.to_json() == ENCODER.to_json()
    assert again.encode_row({"age": "?", "member": None, "plan": "gold", "zip": None}) == ENCODER.encode_row(
        {"age": None, "member": None, "plan": "gold", "zip": "-1"}
    )


def test_damaged_or_newer_json_is_refused():
    saved = ENCODER.to_json()
    with pytest.raises(DataError, match=r"saved by a later release .*install a newer aimass"):
        Encoder.from_json(saved | {"version": 99})
    for broken in ({}, saved | {"columns": [{"kind": "odd"}]}, saved | {"target": None}, saved | {"columns": [{"kind": "numeric"}]}):
        with pytest.raises(DataError, match="this encoder is damaged"):
            Encoder.from_json(broken)


def test_extra_keys_are_ignored():
    row = {"age": 1, "member": "yes", "plan": "gold", "zip": 0}
    assert ENCODER.encode_row(row | {"churn": object(), "more": [1]}) == ENCODER.encode_row(row)


def test_all_absent_columns_are_named():
    with pytest.raises(DataError, match=r"2 columns that the model needs are absent: 'age' \(there is 'Age'\), 'zip'; add what is absent"):
        ENCODER.encode_row({"Age": 1, "member": True, "plan": None})
    with pytest.raises(DataError, match=r"a column that the model needs is absent: 'plan'; .*There are: age, member, zip"):
        ENCODER.encode(pa.table({"age": [1], "member": [True], "zip": ["1"]}))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"age": "abc"}, r"column 'age' holds 'abc', which is not a number; give a number, or None \(in JSON null\) where it is not known"),
        ({"age": [1]}, r"column 'age' holds \[1\], which is not a number"),
        ({"age": math.inf}, "column 'age' holds inf, which is infinite"),
        ({"age": 10**400}, "which is too large a number"),
        ({"member": 2}, "column 'member' holds 2, which is neither true nor false .*; give true or false"),
        ({"plan": {}}, "column 'plan' holds {}, which is neither text nor a number; give a text"),
    ],
)
def test_a_wrong_type_names_column_and_value(wrong, message):
    row = {"age": 1, "member": True, "plan": "gold", "zip": "1"} | wrong
    with pytest.raises(DataError, match=message):
        ENCODER.encode_row(row)
    with pytest.raises(DataError, match=f"row 1: .*{message}"):
        ENCODER.encode_rows([row | {"age": 1, "member": True, "plan": "gold"}, row])


def test_rows_that_are_none():
    with pytest.raises(DataError, match="row 0 is of type list; a row is a dict"):
        ENCODER.encode_rows([[1]])
    assert ENCODER.encode_rows([]).numbers.shape == (0, 4)


def test_a_key_error_of_the_mapping_itself_is_not_hidden():
    class Broken(dict):
        def __getitem__(self, key):
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        ENCODER.encode_row(Broken(age=1, member=1, plan=1, zip=1))


def test_targets_that_cannot_be_encoded():
    table = TRAINING.slice(0, 2).drop_columns(["w"])
    with pytest.raises(
        DataError,
        match="the class 'perhaps' of the target 'churn' has 2 rows, none of them in the training split, which has 'no', 'yes'; remove",
    ):
        ENCODER.encode(table.set_column(4, "churn", [["perhaps", "perhaps"]]))
    with pytest.raises(DataError, match="the target 'churn' is missing in 1 of 2 rows, first in row 1"):
        ENCODER.encode(table.set_column(4, "churn", [["no", None]]))
    assert ENCODER.encode(table.drop_columns(["churn"])).targets is None
    assert ENCODER.encode(table).weights is None


@pytest.mark.parametrize(("weight", "shown"), [(-2.0, "-2"), (None, "missing"), (1e300, r"1e\+300")])
def test_weights_that_are_none(weight, shown):
    table = TRAINING.slice(0, 2)
    with pytest.raises(DataError, match=rf"the weight 'w' is {shown} in row 1 \(1 row to correct\); give each row a number from 0 up"):
        ENCODER.encode(table.set_column(5, "w", pa.array([1.0, weight], pa.float64())))


def test_one_row_is_encoded_without_numpy_arrow_and_torch(tmp_path):
    """A server that only answers requests pays for none of them: the scalar path is plain Python."""
    saved = tmp_path / "encoder.json"
    saved.write_text(json.dumps(ENCODER.to_json()))
    script = f"""
import json, sys
for name in ("numpy", "pyarrow", "torch", "sklearn"):
    sys.modules[name] = None
from aimass.data.encoder import Encoder
encoder = Encoder.from_json(json.load(open({str(saved)!r})))
print(encoder.encode_row({{"age": "20", "member": "yes", "plan": " gold", "zip": 10115}}))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    row = {"age": 20, "member": True, "plan": "gold", "zip": "10115"}
    assert answer.stdout.strip() == str(ENCODER.encode_row(row))


def test_an_image_is_known_while_every_pixel_is_in_use():
    assert load("digits").encoder.image == (1, 8, 8)
    assert Encoder.from_json(json.loads(json.dumps(load("digits").encoder.to_json()))).image == (1, 8, 8)
    assert load("digits", schema={"pixel_0_0": "ignored"}).encoder.image is None
    assert load("digits", schema={"pixel_0_0": "categorical"}).encoder.image is None
    older = {name: value for name, value in load("iris").encoder.to_json().items() if name != "image"}
    assert Encoder.from_json(older).image is None
