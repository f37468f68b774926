import json
from datetime import date

import pytest

from aimass.data import columns, describe, load


@pytest.mark.parametrize("sample", ["digits", "diabetes", "breast_cancer"])
def test_json_can_hold_it(sample):
    description = load(sample).describe()
    assert json.loads(json.dumps(description, allow_nan=False)) == description


def test_what_is_said_of_each_column():
    data = load(
        {
            "age": [20.0, 30.0, None, 40.0] * 5,
            "plan": ["gold", "free", None, "gold"] * 5,
            "member": [True, None, False, True] * 5,
            "one": ["same"] * 20,
            "when": [date(2024, 1, 1 + number) for number in range(20)],
            "tags": [[1]] * 20,
            "churn": ["no", "yes", "no", "no"] * 5,
        },
        "churn",
        seed=5,
    )
    description = data.describe()
    assert description["columns"] == {
        "age": {"kind": "numeric", "missing": 5, "distinct": 3, "min": 20.0, "max": 40.0, "mean": 30.0, "notes": []},
        "plan": {"kind": "categorical", "missing": 5, "distinct": 2, "notes": []},
        "member": {"kind": "boolean", "missing": 5, "distinct": 2, "mean": 2 / 3, "notes": []},
        "one": {"kind": "categorical", "missing": 0, "distinct": 1, "notes": ["one single value: it tells no row from another"]},
        "when": {
            "kind": "ignored",
            "missing": 0,
            "distinct": 20,
            "notes": ["ignored: date32[day] values have no kind; derive numbers or categories from them"],
        },
        "tags": {
            "kind": "ignored",
            "missing": 0,
            "distinct": None,
            "notes": ["ignored: list<item: int64> values have no kind; derive numbers or categories from them"],
        },
        "churn": {"kind": "categorical", "missing": 0, "distinct": 2, "notes": []},
    }
    assert description["classes"] == {"no": 15, "yes": 5}
    assert description["split"] == {"train": 16, "validation": 2, "test": 2}
    assert (description["name"], description["rows"], description["target"], description["task"]) == ("the table", 20, "churn", "binary")
    assert description["fingerprint"] == data.fingerprint


def test_regression_has_no_classes():
    assert load("diabetes").describe()["classes"] is None


def test_rare_categories_are_noted(monkeypatch):
    monkeypatch.setattr(columns.CategoricalColumn.fit.__func__, "__defaults__", (3,))
    values = [letter for letter in "abcdefgh" for _ in range(5)]
    notes = load({"x": values, "y": [0, 1] * 20}, "y").describe()["columns"]["x"]["notes"]
    assert notes == ["5 of 8 categories are rare or not in the training split: they count as one, 'other'"]


def test_a_column_of_nothing():
    described = describe({"x": [1, 2], "none": [None, None], "text": ["", ""]})["columns"]
    assert described["none"] == {"kind": "ignored", "missing": 2, "distinct": 0, "notes": ["ignored: every value is missing"]}
    assert (described["text"]["missing"], described["text"]["distinct"]) == (2, 0)
    assert described["text"]["notes"] == ["ignored: every value is missing"]
