import json
from pathlib import Path

import aimass as library


def test_describe_tells_of_columns_classes_and_splits(aimass):
    outcome = aimass("data", "describe", "iris")
    lines = outcome.out.splitlines()
    assert lines[:3] == [
        "iris: 150 rows, 5 columns",
        "target 'target': multiclass; split: 120 train, 15 validation, 15 test",
        "classes: setosa (50), versicolor (50), virginica (50)",
    ]
    assert lines[5].split() == ["sepal", "length", "(cm)", "numeric", "0", "35", "4.3", "5.843", "7.9"]


def test_describe_for_programs(aimass):
    assert json.loads(aimass("data", "describe", "iris", "--json").out) == library.data.load("iris").describe()


def test_describe_needs_no_target_and_takes_a_schema(aimass):
    Path("plain.csv").write_text("zip,size\n1,?\n2,5\n1,7\n")
    described = json.loads(aimass("data", "describe", "plain.csv", "--schema", "zip=categorical", "--missing", "?", "--json").out)
    assert described["target"] is None
    assert (described["columns"]["zip"]["kind"], described["columns"]["size"]["missing"]) == ("categorical", 1)


def test_nothing_is_cut_in_a_pipe(aimass):
    name = "a column with a very long name " * 10
    Path("wide.csv").write_text(f"{name},b\n1,2\n3,4\n")
    assert name.strip() in aimass("data", "describe", "wide.csv").out
