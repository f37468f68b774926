import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimass.core.errors import DataError, NotFound, UsageError
from aimass.data import describe, load, read_rows

CUSTOMERS = "age,plan,member,churn\n" + "".join(
    f"{20 + number % 30},{('gold', 'free', '')[number % 3]},{('yes', 'no')[number % 2]},{('no', 'yes', 'no')[number % 3]}\n"
    for number in range(60)
)


def splits(data):
    return data.train, data.validation, data.test


@pytest.fixture
def customers(tmp_path):
    path = tmp_path / "customers.csv"
    path.write_text(CUSTOMERS)
    return path


def test_from_a_file_to_arrays(customers):
    data = load(customers, target="churn")
    assert data.schema.kinds == {"age": "numeric", "plan": "categorical", "member": "boolean", "churn": "categorical"}
    assert (data.task, data.target, data.encoder.features) == ("binary", "churn", ("age", "plan", "member"))
    assert (len(data.train), len(data.validation), len(data.test), len(data)) == (48, 6, 6, 60)
    encoded = data.train.encoded
    assert encoded is data.train.encoded
    assert (encoded.numbers.shape, encoded.categories.shape) == ((48, 2), (48, 1))
    assert np.array_equal(encoded.rows, data.train.ids)
    ages = [20 + row % 30 for row in data.train.ids]
    assert np.allclose(encoded.numbers[:, 0], (np.array(ages) - np.mean(ages)) / np.std(ages), atol=1e-6)


def test_the_encoder_knows_the_training_rows_alone():
    values = [float(number) for number in range(100)]
    data = load({"x": values, "y": [0, 1] * 50}, "y")
    column = data.encoder.columns[0]
    mine = np.array(values)[data.train.ids]
    assert column.mean == mine.mean() != np.mean(values)
    assert column.std == mine.std()


def test_splits_are_stratified_where_there_are_classes():
    data = load("iris")
    assert [np.bincount(rows.encoded.targets).tolist() for rows in splits(data)] == [[40] * 3, [5] * 3, [5] * 3]
    ids = np.concatenate([data.train.ids, data.validation.ids, data.test.ids])
    assert np.array_equal(np.sort(ids), np.arange(150))


def test_split_seed_and_stratify_are_heeded():
    assert [len(part) for part in splits(load("iris", split=(0.5, 0.3, 0.2)))] == [75, 45, 30]
    assert np.array_equal(load("iris", seed=1).test.ids, load("iris", seed=1).test.ids)
    assert not np.array_equal(load("iris", seed=1).test.ids, load("iris", seed=2).test.ids)
    plain = load("iris", stratify=False)
    assert len(set(np.bincount(plain.train.encoded.targets))) > 1
    with pytest.raises(UsageError, match="stratify=True needs classes"):
        load("diabetes", stratify=True)


def test_few_rows_leave_splits_empty_and_say_so():
    data = load({"x": [1, 2, 3], "y": [0, 1, 0]}, "y")
    assert (len(data.train), len(data.validation), len(data.test)) == (3, 0, 0)
    assert data.describe()["notes"] == ["too few rows for a validation and a test split: none were set aside"]
    assert data.validation.encoded.numbers.shape == (0, 1)
    assert load({"x": [1, 2, 3], "y": [0, 1, 0]}, "y", split=(1, 0, 0)).notes == ()


def test_weights():
    data = load({"x": list(range(20)), "y": [0, 1] * 10, "w": [str(n / 2) for n in range(20)]}, "y", weight="w")
    assert data.encoder.features == ("x",)
    assert data.train.encoded.weights.tolist() == (data.train.ids / 2).tolist()
    for weights, message in (
        ([-1.0, 1.0], r"the weight 'w' is -1 in row 0 \(1 row to correct\)"),
        ([1.0, None], "the weight 'w' is missing in row 1"),
        ([0.0, 0.0], "the weight 'w' is 0 in every training row"),
    ):
        with pytest.raises(DataError, match=message):
            load({"x": [1, 2], "y": [0, 1], "w": weights}, "y", weight="w")
    with pytest.raises(DataError, match="the weight is 'ww', and there is no such column; did you mean 'w'"):
        load({"x": [1, 2], "y": [0, 1], "w": [1, 1]}, "y", weight="ww")
    with pytest.raises(UsageError, match="'y' cannot be both target and weight"):
        load({"x": [1, 2], "y": [0, 1]}, "y", weight="y")


def test_a_validation_split_whose_weights_are_all_zero_is_read():
    data = load({"x": list(range(20)), "y": [0, 1] * 10, "w": [1.0] * 20}, "y", weight="w")
    weights = np.ones(20)
    weights[data.validation.ids] = 0
    data = load({"x": list(range(20)), "y": [0, 1] * 10, "w": weights}, "y", weight="w")
    assert not data.validation.encoded.weights.any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("age,churn\n4,1\n", "has one row; give at least 2 to train on"),
        ("churn\n1\n0\n", "has no column to learn from besides the target; add columns"),
        (
            "id,churn\n1,1\n2,0\n",
            r"no column to learn from besides the target \('id': ignored: its values name the rows; use it with schema=",
        ),
        ("age,churned\n1,1\n2,0\n", r"the target is 'churn', and there is no such column; did you mean 'churned'\? Columns: age, churned"),
        ("age,churn\n1,1\n2,\n", r"the target 'churn' is missing in 1 of 2 rows, first in line 3 of .*rows\.csv"),
        ("age,churn\n" + "1,1\n2,0\n" * 20 + "abc,1\n", r"column 'age' holds 'abc' in line 42 of .*rows\.csv \(1 of 41 values"),
        ('age,churn\n"1\n",1\n\n' + "1,1\n2,0\n" * 20 + "abc,1\n", r"column 'age' holds 'abc' in line 45 of"),
    ],
)
def test_files_that_cannot_be_trained_on(tmp_path, content, message):
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load(path, "churn")


def test_the_target_has_to_be_named(customers):
    said = r"say which column to predict, as target='...' \(on the command line --target\)\. The columns of .*: age, plan, member, churn"
    with pytest.raises(UsageError, match=said):
        load(customers)
    with pytest.raises(NotFound, match=r"there is no file 'customer\.csv'"):
        load("customer.csv", "churn")


def test_one_column_is_not_enough(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("age churn\n1 1\n2 0\n")
    with pytest.raises(
        DataError, match="one column 'age churn', and it takes one to predict and others to learn from; this is one column:"
    ):
        load(path)
    with pytest.raises(DataError, match=r"no such column.* Columns: age churn; this is one column: values are told apart by commas"):
        load(path, "churn")
    for read in (load, describe):
        with pytest.raises(NotFound, match="the name of the data is empty; give the path of a CSV file"):
            read("")


def test_a_sample_may_have_another_target():
    assert load("iris", "petal width (cm)").task == "regression"


def test_kinds_and_missing_values_may_be_said(customers):
    data = load(customers, "churn", schema={"age": "categorical", "plan": "ignored"}, missing=["gold"])
    assert data.encoder.features == ("age", "member")
    assert data.encoder.cardinalities == (1 + len({20 + row % 30 for row in data.train.ids}),)
    assert load(customers, "churn", missing="gold").table["plan"].null_count == 40
    assert load(customers, "churn", schema=data.schema).encoder == load(customers, "churn", schema=data.schema.kinds).encoder


def test_rows_for_a_model_read_as_the_training_rows(customers):
    data = load(customers, "churn")
    rows = read_rows(customers, data.encoder, need_target=True)
    assert len(rows) == 60
    assert rows.ids.tolist() == list(range(60))
    encoded = rows.encoded
    assert np.array_equal(encoded.numbers[data.test.ids], data.test.encoded.numbers)
    assert np.array_equal(encoded.categories[data.test.ids], data.test.encoded.categories)
    assert np.array_equal(encoded.targets[data.test.ids], data.test.encoded.targets)


@pytest.mark.parametrize("extra", [{}, {"churn": [None]}, {"churn": ["new"]}, {"other": [[1]]}])
def test_rows_to_predict_need_no_target(customers, extra):
    encoder = load(customers, "churn").encoder
    rows = read_rows({"age": [1], "plan": ["new"], "member": [None]} | extra, encoder, need_target=False)
    assert rows.encoded.targets is None
    assert rows.encoded.categories.tolist() == [[0]]


def test_rows_that_a_model_cannot_read(customers, tmp_path):
    encoder = load(customers, "churn").encoder
    path = tmp_path / "rows.csv"
    path.write_text("Age,plan,churn\n1,gold,yes\n")
    with pytest.raises(DataError, match=r"2 columns that the model needs are absent: 'age' \(there is 'Age'\), 'member'; add"):
        read_rows(path, encoder, need_target=True)
    path.write_text("age,plan,member\nold,gold,yes\n")
    with pytest.raises(DataError, match=r"column 'age' holds 'old' in line 2 of .*rows.csv .*; correct it, or leave it empty"):
        read_rows(path, encoder, need_target=False)
    with pytest.raises(DataError, match=r"the target is 'churn', and there is no such column\. Columns: age, plan, member"):
        read_rows(path, encoder, need_target=True)
    path.write_text("age,plan,member,churn\n1,gold,yes,\n")
    with pytest.raises(DataError, match="the target 'churn' is missing in 1 of 1 rows, first in line 2 of"):
        read_rows(path, encoder, need_target=True)
    path.write_text("age,plan,member,churn\n1,gold,yes,perhaps\n")
    with pytest.raises(DataError, match="the class 'perhaps' of the target 'churn' has 1 row, none of them in the training split"):
        _ = read_rows(path, encoder, need_target=True).encoded
    path.write_text("age,plan,member\n")
    with pytest.raises(DataError, match="has columns and no rows"):
        read_rows(path, encoder, need_target=False)


def test_rows_read_the_spellings_of_missing_of_the_training_rows(customers):
    encoder = load(customers, "churn", missing=["?"]).encoder
    rows = read_rows({"age": ["?"], "plan": ["?"], "member": ["?"]}, encoder, need_target=False)
    assert rows.table.to_pydict() == {"age": [None], "plan": [None], "member": [None]}


def test_weights_of_rows_to_evaluate_are_used_where_there_are_any():
    encoder = load({"x": list(range(20)), "y": [0, 1] * 10, "w": [1.0] * 20}, "y", weight="w").encoder
    assert read_rows({"x": [1], "y": [1], "w": [2]}, encoder, need_target=True).encoded.weights.tolist() == [2.0]
    assert read_rows({"x": [1], "y": [1]}, encoder, need_target=True).encoded.weights is None
    assert read_rows({"x": [1], "w": [-2]}, encoder, need_target=False).encoded.weights is None


def test_describe_without_a_target(customers):
    description = describe(customers)
    assert json.loads(json.dumps(description)) == description
    assert (description["rows"], description["target"], description["split"]) == (60, None, None)
    assert description["columns"]["plan"] == {"kind": "categorical", "missing": 20, "distinct": 2, "notes": []}
    assert describe(customers, schema={"plan": "ignored"})["columns"]["plan"]["kind"] == "ignored"
    assert describe(customers, missing=["gold"])["columns"]["plan"]["missing"] == 40


def test_describe_with_a_target_is_that_of_the_data_set(customers):
    assert describe(customers, "churn", seed=3, missing=["gold"]) == load(customers, "churn", seed=3, missing=["gold"]).describe()
    assert describe("iris") == load("iris").describe()


def test_describe_refuses_unknown_options(customers):
    with pytest.raises(UsageError, match=r"there is no option 'sed'; did you mean 'seed'\?"):
        describe(customers, sed=3)


def test_arrow_tables_in_pieces_are_read():
    pieces = pa.concat_tables([pa.table({"x": [1.0, 2.0], "y": ["a", "b"]}), pa.table({"x": [3.0, 4.0], "y": ["b", "c"]})])
    assert load(pieces, "y").encoder.classes == ("a", "b", "c")


PIECES = st.sampled_from(
    [b"a,b,y\n", b"1,x,0\n", b'2,"x y",1\n', b'"', b",", b"\n", b"\r\n", b'""', b"inf", b"\xff", b"\x00", b"\xef\xbb\xbf", b"  ", b";"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(PIECES, max_size=12))
def test_whatever_a_file_holds_it_is_a_data_set_or_one_sentence(tmp_path, pieces):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"".join([b"a,b,y\n1,x,0\n", *pieces]))
    try:
        assert len(load(path, "y")) > 1
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
