import pyarrow as pa
import pytest

from aimass.core.errors import DataError, UsageError
from aimass.data import load


def data_of(values, **options):
    return load({"x": [float(number) for number in range(len(values))], "y": values}, "y", **options)


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["a", "b", "c"] * 5, "multiclass", ("a", "b", "c")),
        (["yes", "no"] * 5, "binary", ("no", "yes")),
        (["Y", "N"] * 5, "binary", ("N", "Y")),
        (["true", "false"] * 5, "binary", (False, True)),
        (["True", "false", "TRUE", "False"] * 5, "binary", (False, True)),
        (["yes", "no", "Yes", "NO"] * 5, "binary", (False, True)),
        ([True, False] * 5, "binary", (False, True)),
        ([0, 1] * 5, "binary", (0, 1)),
        (["0", "1"] * 5, "binary", (0, 1)),
        ([1.0, 2.0] * 5, "binary", (1, 2)),
        ([10, 9, -8] * 5, "multiclass", (-8, 9, 10)),
        (list(range(20)), "multiclass", tuple(range(20))),
        (list(range(21)), "regression", None),
        ([0.5, 1.5] * 5, "regression", None),
        (pa.array(["b", "a"] * 5).dictionary_encode(), "binary", ("a", "b")),
    ],
)
def test_the_task_is_told_from_the_values(values, task, classes):
    data = data_of(values)
    assert (data.task, data.encoder.classes) == (task, classes)
    if classes:
        assert [type(value) for value in data.encoder.classes] == [type(value) for value in classes]


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        ([0.5, 1.5] * 5, "binary", (0.5, 1.5)),
        (["a", "b"] * 5, "multiclass", ("a", "b")),
        ([0, 1, 2] * 5, "regression", None),
        (list(range(30)), "multiclass", tuple(range(30))),
    ],
)
def test_the_caller_may_set_the_task(values, task, classes):
    data = data_of(values, task=task)
    assert (data.task, data.encoder.classes) == (task, classes)


def test_numbers_called_categorical_are_classes_and_stay_numbers():
    data = data_of([str(number % 25) for number in range(100)], schema={"y": "categorical"})
    assert (data.task, data.encoder.classes) == ("multiclass", tuple(range(25)))
    assert data_of(["01", "1"] * 5, schema={"y": "categorical"}).encoder.classes == ("01", "1")
    assert data_of(["yes", "no"] * 5, schema={"y": "boolean"}).encoder.classes == (False, True)


@pytest.mark.parametrize("values", [["a", "c", "b", "a"] * 5, [7, 3, 5, 7] * 5, [True, False, False, True] * 5])
def test_class_ids_point_to_the_original_values(values):
    data = data_of(values)
    for rows in (data.train, data.validation, data.test):
        assert [data.encoder.decode_class(number) for number in rows.encoded.targets] == [values[row] for row in rows.ids]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (["a"] * 9, {}, "the target 'y' has the one value 'a' in every row"),
        ([3.0] * 9, {}, "has the one value 3 in every row"),
        ([3.5] * 9, {"task": "regression"}, "has the one value 3.5 in every row"),
        ([True] * 9, {}, "has the one value True in every row"),
        (["a", "b"] * 5, {"task": "regression"}, "the target 'y' holds 'a', and regression needs numbers; leave task out"),
        (["a", "b", "c"] * 5, {"task": "binary"}, "has 3 values and binary needs 2; use task='multiclass'"),
        ([f"name {number}" for number in range(30)], {}, "differs in every row: no class has a second example"),
        ([1, None, 2, None], {}, "is missing in 2 of 4 rows, first in row 1; fill it in, or remove those rows"),
        (["", "b", "c"] * 2, {}, "is missing in 2 of 6 rows, first in row 0"),
        ([None] * 4, {}, r"the target 'y' cannot be predicted \(every value is missing\)"),
        ([[1], [2]], {}, r"the target 'y' cannot be predicted \(list.* values have no kind"),
        (["1"] * 99 + ["x"], {}, "column 'y' holds 'x' in row 99"),
    ],
)
def test_targets_that_cannot_be_used(values, options, message):
    with pytest.raises(DataError, match=message):
        data_of(values, **options)


def test_unknown_tasks_answer_with_the_known_ones():
    with pytest.raises(
        UsageError, match=r"there is no task 'regresion'; did you mean 'regression'\? Known: binary, multiclass, regression"
    ):
        data_of([1, 2, 3], task="regresion")


def test_a_target_cannot_be_ignored():
    with pytest.raises(UsageError, match="the target 'y' cannot be ignored"):
        data_of([1, 2, 3], schema={"y": "ignored"})


@pytest.mark.parametrize("values", [["a"] * 19 + ["rare"], [0] * 19 + [1]])
def test_a_class_absent_from_the_training_split_is_named(values):
    message = r"the class (1|'rare') of the target 'y' has 1 row, none of them in the training split, which has .*; keep stratify=True"
    seeds = []
    for seed in range(40):
        try:
            data_of(values, stratify=False, seed=seed)
        except DataError as error:
            seeds.append(seed)
            with pytest.raises(DataError, match=message):
                raise error
    assert 0 < len(seeds) < 40
    assert data_of(values, seed=seeds[0]).encoder.classes is not None


def test_an_id_column_may_be_the_target():
    assert load({"x": list(range(30)), "id": list(range(30))}, "id").task == "regression"
