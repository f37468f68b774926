import math
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.data.values import MISSING_SPELLINGS, NUMBER, Missing, boolean, category, number

NONE = Missing()


@pytest.mark.parametrize("value", [1, 1.0, "1", " +1 ", "1.", "1e0", np.int64(1), np.float32(1), np.array(1.0), Decimal(1), True])
def test_one_is_one_however_it_is_written(value):
    assert number(value, NONE) == 1.0


@pytest.mark.parametrize("value", [None, math.nan, np.float32("nan"), *sorted(MISSING_SPELLINGS), " NA ", "NAN"])
def test_missing_numbers(value):
    assert number(value, NONE) is None


@pytest.mark.parametrize("value", ["abc", "1_000", "0x10", "1,5", "١", "1 2", [1], {}, b"1", object()])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="is not a number"):
        number(value, NONE)


@pytest.mark.parametrize("value", [math.inf, -math.inf, "inf", "-Infinity", "1e999"])
def test_infinite_numbers_are_refused(value):
    with pytest.raises(ValueError, match="is infinite"):
        number(value, NONE)


def test_an_integer_beyond_float_is_refused():
    with pytest.raises(ValueError, match="is too large a number"):
        number(10**400, NONE)


@given(st.text(alphabet="0123456789+-.eExinfaNtyINFd_ ,", max_size=8))
def test_the_grammar_of_numbers_is_that_of_arrow(text):
    """Arrow casts whole columns and the pattern finds the odd value out: they have to agree."""
    stripped = text.strip()
    try:
        cast = pc.cast(pa.array([stripped]), pa.float64())[0].as_py()
    except pa.ArrowInvalid:
        cast = None
    assert pc.match_substring_regex(pa.array([stripped]), NUMBER)[0].as_py() == (cast is not None)
    if stripped in MISSING_SPELLINGS:
        return
    if cast is None:
        with pytest.raises(ValueError, match="is not a number"):
            number(text, NONE)
    elif math.isnan(cast):
        assert number(text, NONE) is None
    elif math.isinf(cast):
        with pytest.raises(ValueError, match="is infinite"):
            number(text, NONE)
    else:
        assert number(text, NONE) == cast


@pytest.mark.parametrize("value", [True, np.True_, "true", "TRUE", "Yes", "y", " T ", "1", 1, 1.0])
def test_true(value):
    assert boolean(value, NONE) is True


@pytest.mark.parametrize("value", [False, np.False_, "false", "No", "n", "F", "0", 0, 0.0])
def test_false(value):
    assert boolean(value, NONE) is False


@pytest.mark.parametrize("value", [None, math.nan, "", "NA"])
def test_missing_booleans(value):
    assert boolean(value, NONE) is None


@pytest.mark.parametrize("value", [2, "maybe", [True], 0.5])
def test_what_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(ValueError, match="neither true nor false"):
        boolean(value, NONE)


def test_categories_are_named_by_their_text():
    assert [category(value, NONE) for value in ("gold ", 7, 7.0, 7.5, np.int64(7), Decimal("1.10"), date(2024, 1, 2))] == [
        "gold", "7", "7", "7.5", "7", "1.10", "2024-01-02",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [None, math.nan, "", "  ", "N/A", np.float64("nan")])
def test_missing_categories(value):
    assert category(value, NONE) is None


@pytest.mark.parametrize("value", [[1], {}, b"x", np.array([1, 2])])
def test_what_names_no_category_is_refused(value):
    with pytest.raises(ValueError, match="neither text nor a number"):
        category(value, NONE)


def test_more_spellings_of_missing():
    rules = Missing(["?", -999])
    assert rules.extra == ("?", "-999")
    assert number("?", rules) is None
    assert number(-999.0, rules) is None
    assert number("-999", rules) is None
    assert category("?", rules) is None
    assert boolean(-999, rules) is None
    assert Missing("?").extra == ("?",)
    assert Missing(-1).numbers == {-1.0}


def test_a_pandas_missing_value_is_known_by_its_type():
    assert number(type("NAType", (), {})(), NONE) is None
    assert category(type("NaTType", (), {})(), NONE) is None
