import json

import numpy as np
import pytest
import torch
from serving.engine import models
from serving.engine.asking import as_json, loaded, predict, together

MIXED_ROWS = [
    {"age": 31, "plan": "gold", "member": True, "income": 5e4, "zip": "10115"},
    {"age": None, "plan": None, "member": None, "income": None, "zip": "nowhere"},
    {"age": 40.25, "plan": "silver", "member": False, "income": 1, "zip": 1.5},
]
NUMERIC_ROWS = [{"a": 1.5, "b": 0, "c": 2.5e6}, {"a": None, "b": 0.001, "c": 1e6}, {"a": -4, "b": 0.5, "c": 0}]


@pytest.mark.parametrize("family", ["linear", "mlp"])
@pytest.mark.parametrize("target", list(models.TARGETS))
@pytest.mark.parametrize("make", [models.mixed, models.numeric])
def test_the_answers_are_those_of_model_predict(make, target, family):
    model = make(target, family)
    rows = MIXED_ROWS if make is models.mixed else NUMERIC_ROWS
    served = loaded(model)
    for part in (rows, rows[:1], rows * 7, rows * 1400):  # the last in several parts
        status, body = predict(served, part)
        assert (status, body["model"], body["version"]) == (200, "churn", 7)
        assert body["predictions"] == as_json(model.predict(part))


def test_the_same_request_in_a_batch_of_others_has_the_same_answer_up_to_rounding():
    model = models.mixed("multiclass", "mlp")
    bodies = [json.dumps({"instances": MIXED_ROWS[start:]}).encode() for start in range(3)]
    for start, (status, body) in enumerate(together(loaded(model), bodies)):
        assert status == 200
        for got, expected in zip(body["predictions"], as_json(model.predict(MIXED_ROWS[start:])), strict=True):
            assert got["prediction"] == expected["prediction"]
            assert got["probabilities"] == pytest.approx(expected["probabilities"], rel=1e-5)


def test_of_equal_classes_the_first_is_predicted():
    for target in ("binary", "multiclass"):
        model = models.numeric(target)
        with torch.no_grad():
            for tensor in model.module.parameters():
                tensor.zero_()
        assert predict(loaded(model), NUMERIC_ROWS)[1]["predictions"] == as_json(model.predict(NUMERIC_ROWS))


def test_half_precision_answers_as_model_predict_does():
    model = models.numeric("multiclass", "mlp")
    model.module.to(torch.bfloat16)
    assert predict(loaded(model), NUMERIC_ROWS)[1]["predictions"] == as_json(model.predict(NUMERIC_ROWS))


@pytest.mark.parametrize("target", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_no_number_fails_its_request_alone(target, value):
    model = models.numeric(target)
    with torch.no_grad():  # the first column decides: 0 × value is not a number, and neither is 1 × value
        model.module.weight[:, 0] = 1e38
    fine = {**NUMERIC_ROWS[0], "a": model.encoder.columns[0].mean}
    bad = {**fine, "a": 1e9 if value > 0 else -1e9}
    replies = together(loaded(model), [json.dumps({"instances": rows}).encode() for rows in ([fine], [fine, bad], [fine, fine])])
    assert [status for status, _ in replies] == [200, 500, 200]
    assert replies[1][1]["error"]["code"] == "model_output"
    assert replies[1][1]["error"]["type"] == "server_error"
    assert all(np.isfinite(answer.get("probability", answer["prediction"])) for answer in replies[2][1]["predictions"])


def test_a_network_that_fails_fails_its_request_alone():
    model = models.numeric("regression")
    forward = model.module.forward

    def failing(numbers, categories=None):
        if (numbers[:, 0] > 100).any():
            raise RuntimeError("the network breaks")
        return forward(numbers)

    model.module.forward = failing
    bad = {**NUMERIC_ROWS[0], "a": 1e6}
    replies = together(loaded(model), [json.dumps({"instances": rows}).encode() for rows in (NUMERIC_ROWS, [bad], NUMERIC_ROWS[:1])])
    assert [status for status, _ in replies] == [200, 500, 200]
    assert replies[1][1]["error"]["code"] == "internal"
    assert "breaks" not in replies[1][1]["error"]["message"]
    assert replies[0][1]["predictions"] == as_json(model.predict(NUMERIC_ROWS))
