import json

import pytest

from aimass.core.errors import DataError, UsageError
from aimass.data import Column, Schema
from aimass.data.schema import listed, no_column, overrides

SCHEMA = Schema([Column(name="age", kind="numeric", note="one single value"), Column(name="plan", kind="categorical")])


def test_json_round_trip():
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA


def test_it_is_a_collection_in_the_order_of_the_file():
    assert [column.name for column in SCHEMA] == ["age", "plan"]
    assert len(SCHEMA) == 2
    assert "age" in SCHEMA
    assert "x" not in SCHEMA
    assert SCHEMA["plan"].kind == "categorical"
    assert repr(SCHEMA) == "Schema(age: numeric, plan: categorical)"
    assert len({SCHEMA, Schema(SCHEMA.columns)}) == 1


def test_overrides_come_from_a_dict_or_a_schema():
    assert overrides({"age": "boolean"}, ["age", "plan"]) == {"age": "boolean"}
    assert overrides(SCHEMA, ["age", "plan"]) == {"age": "numeric", "plan": "categorical"}
    assert overrides(None, ["age"]) == {}


def test_an_unknown_kind_answers_with_the_known_ones():
    with pytest.raises(
        UsageError, match=r"'age'.*'numerical'; did you mean 'numeric'\? Known: boolean, categorical, ignored, image, numeric"
    ):
        overrides({"age": "numerical"}, ["age"])


def test_an_unknown_column_answers_with_the_nearest():
    with pytest.raises(DataError, match=r"the schema names 'agee'.*did you mean 'Age'\? Columns: Age, plan"):
        overrides({"agee": "numeric"}, ["Age", "plan"])


def test_a_name_near_none_gets_no_suggestion():
    assert str(no_column("the target is", "zzz", ["a"])) == "the target is 'zzz', and there is no such column. Columns: a"


def test_long_lists_are_cut():
    assert listed(range(3)) == "0, 1, 2"
    assert listed(range(30)).endswith("18, 19 and 10 more")


def test_a_name_with_a_line_break_does_not_break_the_sentence():
    assert listed(["a\nb", "c"]) == "'a\\nb', c"
