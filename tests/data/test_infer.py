import math
from datetime import date

import pyarrow as pa
import pytest

import aimass
from aimass.core.errors import DataError
from aimass.data.infer import infer
from aimass.data.source import Raw
from aimass.data.values import Missing


def infer_one(values, name="x", said=None, missing=(), kept=()):
    raw = Raw(name="t", table=pa.table({name: values}))
    schema, table = infer(raw, {} if said is None else {name: said}, Missing(missing), kept=frozenset(kept))
    return schema[name], table[name]


NAMES = [f"person {number}" for number in range(30)]


@pytest.mark.parametrize(
    ("values", "kind", "typed"),
    [
        (["1", " 2.5 ", "-3e2", "+4"], "numeric", [1.0, 2.5, -300.0, 4.0]),
        (["1", "", "NA", "2"], "numeric", [1.0, None, None, 2.0]),
        (["true", "FALSE", "", "True"], "boolean", [True, False, None, True]),
        (["yes", "no", "y", "N"], "boolean", [True, False, True, False]),
        (["t", "f", "null", "t"], "boolean", [True, False, None, True]),
        (["0", "1", "1", "0"], "numeric", [0.0, 1.0, 1.0, 0.0]),
        (["gold", " gold ", "NULL", "free"], "categorical", ["gold", "gold", None, "free"]),
        (["yes", "no", "maybe", "no"], "categorical", ["yes", "no", "maybe", "no"]),
        ([1, 2, None, 3], "numeric", [1.0, 2.0, None, 3.0]),
        ([1.5, math.nan, 2.0, 3.0], "numeric", [1.5, None, 2.0, 3.0]),
        ([True, None, False, True], "boolean", [True, None, False, True]),
        (pa.array(["a", "b", None, "a"]).dictionary_encode(), "categorical", ["a", "b", None, "a"]),
        (pa.array([3, 1, None, 3]).dictionary_encode(), "categorical", ["3", "1", None, "3"]),
        (pa.array(["1", "2", None, "3"], pa.large_string()), "numeric", [1.0, 2.0, None, 3.0]),
    ],
)
def test_kinds(values, kind, typed):
    column, found = infer_one(values)
    assert (column.kind, found.to_pylist(), column.note) == (kind, typed, "")


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (["", "NA", " "], "every value is missing"),
        ([None, None, None], "every value is missing"),
        ([math.nan, math.nan], "every value is missing"),
        (NAMES, "text that differs in nearly every row"),
        ([*NAMES, "person 1", "person 2", ""], "text that differs in nearly every row"),
        ([date(2024, 1, 1), date(2024, 1, 2)], "values have no kind"),
        ([[1], [2]], "values have no kind"),
    ],
)
def test_columns_that_are_ignored_say_why(values, note):
    column, found = infer_one(values)
    assert column.kind == "ignored"
    assert column.note.startswith("ignored: ")
    assert note in column.note
    assert len(found) == len(values)
    assert (found.null_count == len(values)) == (note == "every value is missing")


def test_few_rows_of_distinct_text_are_categories():
    assert infer_one(NAMES[:20])[0].kind == "categorical"
    assert infer_one([*NAMES, *NAMES[:4]])[0].kind == "categorical"


@pytest.mark.parametrize("name", ["id", "ID", "user_id", "user id", "order-Id", "customerId", "PassengerID"])
def test_columns_that_name_rows_are_ignored(name):
    assert infer_one(["1", "2", "3"], name)[0].note.startswith("ignored: its values name the rows")
    assert infer_one([1, 2, 3], name)[0].kind == "ignored"
    assert infer_one(["a1", "b2", "c3"], name)[0].kind == "ignored"
    assert infer_one(["1", "2", "2"], name)[0].kind == "numeric"


@pytest.mark.parametrize("name", ["paid", "grid", "idle", "android", "ids"])
def test_other_names_are_none_of_rows(name):
    assert infer_one(["1", "2", "3"], name)[0].kind == "numeric"


def test_a_target_is_never_ignored():
    assert infer_one([1, 2, 3], "id", kept=["id"])[0].kind == "numeric"
    assert infer_one(NAMES, kept=["x"])[0].kind == "categorical"


@pytest.mark.parametrize(
    ("values", "kind"), [(["5", "5.0"], "numeric"), (["a", "a", ""], "categorical"), (["yes", "Y"], "boolean"), ([2, 2], "numeric")]
)
def test_a_single_value_is_noted_and_its_kind_kept(values, kind):
    column, _ = infer_one(values)
    assert (column.kind, column.note) == (kind, "one single value: it tells no row from another")


def test_one_bad_value_in_a_million_is_named():
    values = ["17"] * 1_000_000
    values[123_456] = "abc"
    with pytest.raises(DataError) as caught:
        infer_one(values, "age")
    assert str(caught.value) == (
        "column 'age' holds 'abc' in row 123456 (1 of 1,000,000 values is not a number); "
        "correct it, or load with schema={'age': 'categorical'}, or with missing=['abc']"
    )


def test_the_share_counts_present_values_alone():
    with pytest.raises(DataError, match=r"1 of 20 values is not"):
        infer_one(["1"] * 19 + ["x"] + [""] * 100)
    assert infer_one(["1"] * 18 + ["x", "x"] + ["2"] * 18)[0].kind == "categorical"


def test_what_helps_against_a_bad_value_helps():
    values = ["1"] * 99 + ["abc"]
    assert infer_one(values, said="categorical")[1].to_pylist()[-1] == "abc"
    column, typed = infer_one(values, missing=["abc"])
    assert (column.kind, typed.null_count) == ("numeric", 1)


@pytest.mark.parametrize("values", [["1", "inf", "2", "-Infinity"], [1.0, math.inf, 2.0, -math.inf], ["1", "1e999", "2", "-1e999"]])
def test_infinite_values_are_named(values):
    with pytest.raises(DataError, match=r"column 'x' holds inf in row 1 \(2 of 4 values are infinite\); put a number there"):
        infer_one(values)


def test_infinite_values_may_be_called_missing():
    assert infer_one([1.0, math.inf], missing=["inf"])[1].to_pylist() == [1.0, None]
    assert infer_one(["1", "inf"], missing=["inf"])[1].to_pylist() == [1.0, None]


def test_numbers_may_be_called_missing():
    assert infer_one(["1", "-999", "-999.0"], missing=[-999])[1].to_pylist() == [1.0, None, None]
    assert infer_one([1, -999], missing=["-999"])[1].to_pylist() == [1.0, None]


@pytest.mark.parametrize(
    ("values", "said", "typed"),
    [
        (["01234", "1234", ""], "categorical", ["01234", "1234", None]),
        ([1, 2, None], "categorical", ["1", "2", None]),
        ([1.0, 2.5], "categorical", ["1", "2.5"]),
        ([True, False], "categorical", ["True", "False"]),
        (["0", "1", "yes"], "boolean", [False, True, True]),
        ([0, 1, None], "boolean", [False, True, None]),
        ([True, False], "numeric", [1.0, 0.0]),
        (pa.array(["1", "2"]).dictionary_encode(), "numeric", [1.0, 2.0]),
        ([None, None], "numeric", [None, None]),
        (["1", "2"], "ignored", ["1", "2"]),
        ([date(2024, 1, 2)], "categorical", ["2024-01-02"]),
    ],
)
def test_what_the_caller_says_wins(values, said, typed):
    column, found = infer_one(values, "id", said)
    assert (column.kind, found.to_pylist()) == (said, typed)


@pytest.mark.parametrize(
    ("values", "said", "message"),
    [
        (["1", "x", "y"], "numeric", r"holds 'x' in row 1 \(2 of 3 values are not a number\); correct it"),
        (["yes", "perhaps"], "boolean", r"holds 'perhaps' in row 1, which is neither true nor false .*correct it"),
        ([0, 2], "boolean", r"holds '2' in row 1, which is neither true nor false"),
        ([[1], [2]], "categorical", r"holds list<.*> values, which have no kind; load with schema=\{'x': 'ignored'\}"),
        ([date(2024, 1, 2)], "numeric", r"holds date32\[day\] values, not numbers"),
    ],
)
def test_what_the_said_kind_cannot_hold_is_named(values, said, message):
    with pytest.raises(DataError, match=message):
        infer_one(values, said=said)


def test_dates_in_a_file_are_ignored_with_a_note_and_can_be_asked_for(tmp_path):
    file = tmp_path / "a.csv"
    days = ["2024-01-01", "2024-02-29T12:30", "2023-05-05 01:02:03", ""]
    file.write_text("day,x,y\n" + "".join(f"{days[i % 4]},{i},{'ab'[i % 2]}\n" for i in range(40)))
    described = aimass.data.load(str(file), "y").describe()["columns"]["day"]
    assert described["kind"] == "ignored"
    assert "dates have no kind" in described["notes"][0]
    assert aimass.data.load(str(file), "y", schema={"day": "categorical"}).schema["day"].kind == "categorical"
