import pyarrow as pa
import pytest

from aimass.core.errors import DataError
from aimass.data.conform import Reading, conform
from aimass.data.values import Missing

READING = Reading(missing=Missing())
KINDS = {"n": "numeric", "b": "boolean", "c": "categorical"}
TABLE = pa.table({"n": ["1", "", "3"], "b": ["yes", "no", "NA"], "c": [" a", "b", ""], "other": [1, 2, 3]})
TYPED = {"n": [1.0, None, 3.0], "b": [True, False, None], "c": ["a", "b", None]}


def test_columns_are_typed_and_others_left_out():
    typed = conform(TABLE, KINDS, READING)
    assert typed.to_pydict() == TYPED
    assert typed.schema.types == [pa.float64(), pa.bool_(), pa.dictionary(pa.int32(), pa.string())]


def test_twice_is_once():
    typed = conform(TABLE, KINDS, READING)
    assert conform(typed, KINDS, READING).equals(typed)


def test_parts_and_pieces_read_as_the_whole():
    pieces = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 0), TABLE.slice(1, 2)])
    assert conform(pieces, KINDS, READING).to_pydict() == TYPED
    typed = conform(TABLE, KINDS, READING)
    assert conform(typed.take([2, 0]), KINDS, READING)["c"].to_pylist() == [None, "a"]
    assert conform(TABLE.slice(0, 0), KINDS, READING).num_rows == 0


def test_a_fitted_model_is_not_offered_another_kind():
    fitted = Reading(missing=Missing(), fitted=True)
    with pytest.raises(DataError, match=r"holds 'x' in row 0 .*; correct it, or leave it empty where it is not known$"):
        conform(pa.table({"n": ["x"]}), {"n": "numeric"}, fitted)
    with pytest.raises(DataError, match=r"or leave it empty where it is not known$"):
        conform(pa.table({"b": ["x"]}), {"b": "boolean"}, fitted)


def test_nulls_inside_a_dictionary_are_missing():
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["a", None]))
    assert conform(pa.table({"c": column}), {"c": "categorical"}, READING)["c"].to_pylist() == ["a", None, "a"]
