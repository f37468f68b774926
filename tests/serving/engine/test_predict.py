import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving.engine import models
from serving.engine.asking import loaded, predict, together

ROW = {"age": 31, "plan": "gold", "member": True, "income": 5e4, "zip": "10115"}
SERVED = loaded(models.mixed(), max_rows=5)


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        (b"", 400, None, "is not JSON"),
        (b"{", 400, None, "is not JSON"),
        (b'{"instances": [{"age": \xff}]}', 400, None, "is not JSON"),
        (b'{"instances": ' + b"[" * 200_000, 400, None, "nested too deeply"),
        (b"[]", 400, "instances", "has no 'instances'"),
        (b'{"rows": []}', 400, "instances", "has no 'instances'"),
        (b'{"instances": {"age": 1}}', 400, "instances", "is no list"),
        (b'{"instances": []}', 422, "instances", "has no row"),
        (b'{"instances": [null]}', 422, "instances[0]", "row 0 is null"),
        (b'{"instances": [[1, 2]]}', 422, "instances[0]", "row 0 has 2 values, and the model takes 5 columns, in this order: age, plan"),
        (json.dumps({"instances": [ROW] * 6}).encode(), 413, "instances", "there are 6 rows, and one request may have 5"),
        (json.dumps({"instances": [[*ROW.values(), 1]]}).encode(), 422, "instances[0]", "row 0 has 6 values"),
        (json.dumps({"instances": [ROW, {**ROW, "age": float("inf")}]}).encode(), 422, "instances[1].age", "column 'age' holds inf"),
        (json.dumps({"instances": [[float("nan"), *list(ROW.values())[1:]]]}).encode(), 422, "instances[0][0]", "no number in JSON"),
    ],
)
def test_a_body_that_is_off_is_refused_with_a_sentence(body, status, param, words):
    found, reply = together(SERVED, [body])[0]
    assert (found, reply["error"]["param"]) == (status, param)
    assert words in reply["error"]["message"]
    assert reply["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"age": "old"}, "instances[2].age", "row 2: column 'age' holds 'old', which is not a number; give a number"),
        ({"age": 10**400}, "instances[2].age", "row 2: column 'age'"),
        ({"age": "inf"}, "instances[2].age", "is infinite"),
        ({"age": 1e300}, "instances[2].age", "too far from the training rows"),
        ({"member": "maybe"}, "instances[2].member", "neither true nor false"),
        ({"plan": ["gold"]}, "instances[2].plan", "neither text nor a number"),
        ({"age": {}}, "instances[2].age", "is not a number"),
        ({"plan": None, "age": ...}, "instances[2].age", "a column that the model needs is absent: 'age'"),
    ],
)
def test_a_row_that_is_off_is_named(change, param, words):
    row = {name: value for name, value in {**ROW, **change}.items() if value is not ...}
    status, reply = predict(SERVED, [ROW, ROW, row])
    assert (status, reply["error"]["code"], reply["error"]["param"]) == (422, "invalid_data", param)
    assert words in reply["error"]["message"]


def test_columns_that_the_model_does_not_know_and_other_fields_are_passed_over():
    body = json.dumps({"signature_name": "x", "instances": [{**ROW, "more": [1, {}]}], "parameters": {}}).encode()
    assert together(SERVED, [body])[0] == predict(SERVED, [ROW])


def test_a_bad_request_does_not_hurt_the_others_of_its_batch():
    good = json.dumps({"instances": [ROW]}).encode()
    alone = together(SERVED, [good])[0]
    bad = [b"{", b'{"instances": [{}]}', json.dumps({"instances": [{**ROW, "age": 1e300}]}).encode(), b'{"instances": []}']
    replies = together(SERVED, [good, bad[0], good, bad[1], bad[2], good, bad[3]])
    assert [status for status, _ in replies] == [200, 400, 200, 422, 422, 200, 422]
    for place in (0, 2, 5):
        assert replies[place][1]["predictions"][0]["probabilities"] == pytest.approx(alone[1]["predictions"][0]["probabilities"], rel=1e-5)
    assert replies[4][1]["error"]["param"] == "instances[0].age"


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.sampled_from([*ROW, "x"]), inner, max_size=6)),
    max_leaves=20,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(JSON, st.fixed_dictionaries({"instances": JSON}), st.fixed_dictionaries({"instances": st.lists(JSON)})))
def test_any_json_is_answered_or_refused_and_never_an_accident(value):
    status, reply = together(SERVED, [json.dumps(value).encode()])[0]
    assert status in (200, 400, 413, 422)
    assert ("predictions" in reply) == (status == 200)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=60))
def test_any_bytes_are_refused(body):
    assert together(SERVED, [body])[0][0] in (400, 422)
