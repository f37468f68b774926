import json

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving.engine import models

from aimass.core.errors import DataError
from aimass.data.encoder import Encoder
from aimass.serving.engine.predict import PredictReader
from aimass.serving.engine.rows import BulkEncoder, encode_carefully, row_decoders

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(
    st.none(), FINITE, st.integers(-(2**70), 2**70), st.just(-1), st.booleans(), st.sampled_from(["1.5", " 7 ", "NA", "", "?"])
)
TEXTS = st.one_of(
    st.none(), st.text(max_size=6), st.sampled_from(["gold", " free", "10115", "1.5", "True"]), st.integers(0, 20000), st.just(1.5)
)
BOOLEANS = st.one_of(st.none(), st.booleans(), st.sampled_from([0, 1, 1.0, "yes", "F", ""]))
BY_KIND = {"numeric": NUMBERS, "categorical": TEXTS, "boolean": BOOLEANS}
ROW = st.fixed_dictionaries({name: BY_KIND[kind] for name, kind in models.KINDS.items()})
PLAIN = st.fixed_dictionaries({name: st.one_of(FINITE, st.integers(-(2**70), 2**70)) for name in models.NUMERIC})

MIXED = models.mixed().encoder
NUMERIC = models.numeric().encoder
SENTINEL = models.mixed(missing=["?", -1]).encoder


def arrays_of(encoder, body):
    """What the engine makes of a body, or its error."""
    bulk = BulkEncoder(encoder)
    reader = PredictReader(bulk)
    try:
        found = reader.read(body)
        if isinstance(found, list):
            found = bulk.encode(found) or reader.read_carefully(body)
    except DataError as error:
        return str(error)
    return [(array.dtype, array.shape, array.tobytes()) for array in found]


def reference(encoder, rows):
    """What the encoder itself makes of the rows, or its error."""
    try:
        found = encoder.encode_rows(rows)
    except DataError as error:
        return str(error)
    return [(array.dtype, array.shape, array.tobytes()) for array in (found.numbers, found.categories)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROW, min_size=1, max_size=5), st.sampled_from([MIXED, SENTINEL]), st.booleans(), st.randoms(use_true_random=False))
def test_any_rows_are_encoded_to_the_bit_as_the_encoder_does(rows, encoder, as_lists, random):
    shuffled = [dict(random.sample(sorted(row.items()), len(row))) for row in rows]
    given_rows = [[row[name] for name in encoder.features] for row in rows] if as_lists else shuffled
    assert arrays_of(encoder, json.dumps({"instances": given_rows}).encode()) == reference(encoder, rows)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PLAIN, min_size=1, max_size=5), st.booleans())
def test_plain_numbers_are_encoded_to_the_bit_as_the_encoder_does(rows, as_lists):
    given_rows = [[row[name] for name in NUMERIC.features] for row in rows] if as_lists else rows
    assert arrays_of(NUMERIC, json.dumps({"instances": given_rows}).encode()) == reference(NUMERIC, rows)


def test_usual_rows_take_the_quick_way():
    for encoder, row in (
        (MIXED, {"age": 3, "plan": "gold", "member": None, "income": None, "zip": None}),
        (NUMERIC, {"a": 1, "b": 2.5, "c": 0}),
    ):
        bulk = BulkEncoder(encoder)
        objects, lists = row_decoders(bulk)
        for decode, given_row in ((objects, row), (lists, [row[name] for name in encoder.features])):
            assert bulk.encode(decode(json.dumps({"instances": [given_row] * 3}).encode())) is not None


def test_a_list_of_more_values_than_columns_is_not_taken_silently():
    _, lists = row_decoders(BulkEncoder(NUMERIC))
    with pytest.raises(msgspec.ValidationError):
        lists(b'{"instances": [[1, 2, 3, 4]]}')


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "größe", ""])
def test_any_column_name_will_do(name):
    columns = {name: [1.0, 2.0, 3.0, 4.0]}
    encoder = models.build(columns, {name: "numeric"}, "regression").encoder
    assert arrays_of(encoder, json.dumps({"instances": [{name: 2.5}, {name: None}]}).encode()) == reference(
        encoder, [{name: 2.5}, {name: None}]
    )


def test_more_columns_than_a_compiled_decoder_takes():
    names = [f"c{number}" for number in range(1100)]
    columns = tuple(type(NUMERIC.columns[0])(name=name, mean=1.0, std=2.0, indicator=False) for name in names)
    encoder = Encoder(columns=columns, task="regression", target="y", target_kind="numeric", target_mean=0.0, target_std=1.0)
    assert row_decoders(BulkEncoder(encoder)) == ()
    rows = [dict.fromkeys(names, 7.0)]
    assert arrays_of(encoder, json.dumps({"instances": rows}).encode()) == reference(encoder, rows)


def test_the_careful_way_names_row_column_and_what_is_wanted():
    with pytest.raises(DataError, match=r"^row 1: column 'age' holds 'x', which is not a number; give a number, or None") as raised:
        encode_carefully(MIXED, [dict.fromkeys(MIXED.features), {**dict.fromkeys(MIXED.features), "age": "x"}])
    assert raised.value.param == "instances[1].age"


def test_no_number_that_is_far_off_passes_unseen():
    bulk = BulkEncoder(NUMERIC)
    assert bulk.encode([(1.0, 1e300, 1.0)]) is None
    assert bulk.encode([(1.0, float("inf"), 1.0)]) is None
    numbers, _ = bulk.encode([(1.0, float("nan"), 1.0)])
    assert numbers[0, 1] == 0.0
    assert numbers.dtype == np.float32
