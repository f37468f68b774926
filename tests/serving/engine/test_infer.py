import json
import struct
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving.engine import models
from serving.engine.asking import as_json, infer, loaded
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor, triton_to_np_dtype

from aimass.core.errors import UsageError
from aimass.serving.oip import NUMPY_TYPES, metadata

MIXED = models.mixed()
NUMERIC = models.numeric()
SERVED = loaded(MIXED, max_rows=5)
NUMBERS = loaded(NUMERIC, max_rows=100)
COLUMNS = {
    "age": ("FP64", [31.0, None]),
    "plan": ("BYTES", ["gold", None]),
    "member": ("BOOL", [True, False]),
    "income": ("INT32", [50000, 1]),
    "zip": ("INT64", [10115, 0]),
}
ROWS = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*(values for _, values in COLUMNS.values()), strict=True)]
INPUTS = [{"name": name, "shape": [2], "datatype": datatype, "data": data} for name, (datatype, data) in COLUMNS.items()]


def change(name, /, **fields):
    """The inputs with one of them changed."""
    return {"inputs": [{**each, **fields} if each["name"] == name else each for each in INPUTS]}


def outputs(reply):
    return {output["name"]: output for output in reply["outputs"]}


@pytest.mark.parametrize("target", list(models.TARGETS))
def test_columns_as_json_are_answered_as_model_predict_does(target):
    model = models.mixed(target)
    status, reply, _ = infer(loaded(model), {"id": "a-1", "inputs": INPUTS})
    expected = model.predict(ROWS)
    assert (status, reply["id"], reply["model_name"], reply["model_version"]) == (200, "a-1", "churn", "7")
    assert outputs(reply)["prediction"]["data"] == as_json([answer["prediction"] for answer in expected])
    declared = metadata("churn", [7], model.signature())["outputs"]
    assert [output["name"] for output in reply["outputs"]] == [output["name"] for output in declared]
    for output, own in zip(reply["outputs"], declared, strict=True):
        assert output["datatype"] == own["datatype"]
        assert output["shape"] == [2, *own["shape"][1:]]
    if "probability" in expected[0]:
        assert outputs(reply)["probability"]["data"] == [answer["probability"] for answer in expected]
        assert outputs(reply)["probabilities"]["data"] == [value for answer in expected for value in answer["probabilities"].values()]


@pytest.mark.parametrize("datatype", list(NUMPY_TYPES))
@pytest.mark.parametrize("name", ["input", "x"])
def test_one_tensor_of_numbers_of_every_type(datatype, name):
    dtype = triton_to_np_dtype(datatype)
    values = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype)
    rows = [dict(zip(models.NUMERIC, map(float, row), strict=True)) for row in values]
    expected = [answer["probability"] for answer in NUMERIC.predict(rows)]
    head = {"name": name, "shape": [2, 3], "datatype": datatype}
    for request, binary in (
        ({"inputs": [{**head, "parameters": {"binary_data_size": values.nbytes}}]}, values.tobytes()),
        ({"inputs": [{**head, "data": values.tolist()}]}, b""),
        ({"inputs": [{**head, "data": values.reshape(-1).tolist()}]}, b""),
    ):
        status, reply, _ = infer(NUMBERS, request, binary)
        assert status == 200, reply
        assert outputs(reply)["probability"]["data"] == expected


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_columns_of_any_type_and_form_are_encoded_as_the_encoder_does(data):
    inputs, binary, columns = [], b"", {}
    count = data.draw(st.integers(1, 4))
    for name, kind in models.KINDS.items():
        types = [*NUMPY_TYPES, "BYTES"] if kind != "boolean" else ["BOOL", "INT8", "FP32"]
        datatype = data.draw(st.sampled_from(types))
        texts = ["gold", "10115", " 1.5"] if kind == "categorical" else ["1.5", " 7", "NA"]
        if datatype == "BYTES":
            values = data.draw(st.lists(st.sampled_from(texts), min_size=count, max_size=count))
            raw, columns[name] = serialize_byte_tensor(np.array(values, dtype=np.object_)).item(), values
        else:
            array = np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))).astype(NUMPY_TYPES[datatype])
            raw, columns[name] = array.tobytes(), array.tolist()
        head = {"name": name, "shape": data.draw(st.sampled_from([[count], [count, 1]])), "datatype": datatype}
        if data.draw(st.booleans()):
            inputs.append({**head, "parameters": {"binary_data_size": len(raw)}})
            binary += raw
        else:
            inputs.append({**head, "data": columns[name]})
    request = json.dumps({"inputs": inputs}).encode()
    (numbers, categories), _ = SERVED.infer_reader.read(request + binary, len(request))
    expected = MIXED.encoder.encode_rows([dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)])
    assert numbers.tobytes() == expected.numbers.tobytes()
    assert np.array_equal(categories, expected.categories)


def test_outputs_come_as_bytes_where_they_are_asked_for():
    expected = MIXED.predict(ROWS)
    chosen = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "probability"}, {"name": "prediction"}]
    chosen[2]["parameters"] = {"binary_data": True}
    status, reply, binary = infer(SERVED, {"inputs": INPUTS, "outputs": chosen})
    assert status == 200
    assert [output["name"] for output in reply["outputs"]] == ["probabilities", "probability", "prediction"]
    size = reply["outputs"][0]["parameters"]["binary_data_size"]
    assert np.frombuffer(binary[:size]).tolist() == [value for answer in expected for value in answer["probabilities"].values()]
    assert reply["outputs"][1]["data"] == [answer["probability"] for answer in expected]
    assert [text.decode() for text in deserialize_bytes_tensor(binary[size:])] == [answer["prediction"] for answer in expected]
    assert len(binary) == size + reply["outputs"][2]["parameters"]["binary_data_size"]


def test_all_outputs_come_as_bytes_where_the_request_says_so():
    status, reply, binary = infer(SERVED, {"inputs": INPUTS, "parameters": {"binary_data_output": True}})
    assert status == 200
    assert sum(output["parameters"]["binary_data_size"] for output in reply["outputs"]) == len(binary)
    assert not any("data" in output for output in reply["outputs"])


@pytest.mark.parametrize(
    ("request_", "status", "param", "words"),
    [
        ({}, 400, None, "missing required field `inputs`"),
        ({"inputs": []}, 400, "inputs", "no inputs"),
        ({"inputs": [{"name": 1}]}, 400, None, "Expected `str`"),
        ({"inputs": INPUTS[1:]}, 422, "inputs", "1 of the model's 5 inputs are absent: 'age'"),
        ({"inputs": [*INPUTS, INPUTS[0]]}, 400, "inputs[5].name", "given twice"),
        (change("age", name="agee"), 400, "inputs[0].name", "did you mean 'age'"),
        (change("age", datatype="FP99"), 400, "inputs[0].datatype", "there is no datatype 'FP99'"),
        (change("age", datatype="INT8", data=[300, 1]), 400, "inputs[0].data", "INT8 does not hold"),
        (change("age", datatype="INT8", data=[1.5, 1]), 400, "inputs[0].data", "takes whole numbers"),
        (change("age", datatype="BOOL"), 400, "inputs[0].data", "takes true or false"),
        (change("age", data=["1", "2"]), 400, "inputs[0].data", "takes numbers"),
        (change("age", data=[1.0]), 400, "inputs[0].data", "has 1 values, and the shape [2] takes 2"),
        (change("age", data=None), 400, "inputs[0].data", "has no data"),
        (change("age", shape=[1, 2]), 400, "inputs[0].shape", "give [rows]"),
        (change("age", shape=[]), 400, "inputs[0].shape", "give [rows]"),
        (change("age", shape=[-2]), 400, "inputs[0].shape", "give [rows]"),
        (change("age", shape=[3], data=[1, 2, 3]), 400, "inputs", "have 2 and 3 rows"),
        (change("age", data=[1e300, 1.0]), 422, "inputs[0].age", "row 0: column 'age' holds 1e+300, too far"),
        (change("age", datatype="FP32", data=[1e300, 1.0]), 422, "inputs[0].age", "is infinite"),
        (change("member", datatype="INT64", data=[1, 2]), 422, "inputs[1].member", "neither true nor false"),
        (change("age", parameters={"binary_data_size": 16}), 400, "inputs[0].parameters.binary_data_size", "both data and"),
        ({"inputs": INPUTS, "outputs": [{"name": "best"}]}, 400, "outputs[0].name", "there is no output 'best'"),
        (
            {"inputs": INPUTS, "outputs": [{"name": "prediction", "parameters": {"classification": 2}}]},
            400,
            "outputs[0].parameters",
            "not offered",
        ),
        ({"inputs": [{**each, "shape": [6], "data": each["data"] * 3} for each in INPUTS]}, 413, "inputs", "there are 6 rows"),
        ({"inputs": [{**each, "shape": [0], "data": []} for each in INPUTS]}, 422, "inputs", "no row"),
    ],
)
def test_a_request_that_is_off_is_refused_with_a_sentence(request_, status, param, words):
    found, reply, _ = infer(SERVED, request_)
    assert (found, reply["error"]["param"]) == (status, param), reply
    assert words in reply["error"]["message"]


@pytest.mark.parametrize(
    ("size", "binary", "words"),
    [
        (24, bytes(24), None),
        (24, bytes(20), "has 20 left for it"),
        (24, bytes(28), "4 bytes at the end of the body belong to no input"),
        (20, bytes(20), "has 20 bytes, and FP64 of shape [1, 3] takes 24"),
        (-1, bytes(24), "give how many bytes it has"),
        ("24", bytes(24), "give how many bytes it has"),
    ],
)
def test_sizes_of_bytes_are_checked(size, binary, words):
    head = {"name": "input", "shape": [1, 3], "datatype": "FP64", "parameters": {"binary_data_size": size}}
    status, reply, _ = infer(NUMBERS, {"inputs": [head]}, binary)
    assert (status == 200) == (words is None)
    assert words is None or words in reply["error"]["message"]


@pytest.mark.parametrize("raw", [b"\1\0\0\0", b"\1\0\0\0ab", b"\1\0\0\0\xff", b"\1\0", struct.pack("<I", 2**32 - 1) + b"a"])
def test_texts_as_bytes_are_checked(raw):
    inputs = [{**each, "shape": [1], "data": each["data"][:1]} for each in INPUTS if each["name"] != "plan"]
    head = {"name": "plan", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    assert infer(SERVED, {"inputs": [*inputs, head]}, raw)[0] == 400
    fine = struct.pack("<I", 4) + b"gold"
    head["parameters"] = {"binary_data_size": len(fine)}
    assert infer(SERVED, {"inputs": [*inputs, head]}, fine)[0] == 200


@pytest.mark.parametrize(
    ("shape", "datatype", "count"), [([2, 2], "FP64", 4), ([3], "FP64", 3), ([1, 3, 1], "FP64", 3), ([1, 3], "BYTES", 3)]
)
def test_a_tensor_of_all_columns_has_to_fit(shape, datatype, count):
    data = ["1"] * count if datatype == "BYTES" else [1.0] * count
    status, reply, _ = infer(NUMBERS, {"inputs": [{"name": "input", "shape": shape, "datatype": datatype, "data": data}]})
    assert (status, reply["error"]["param"]) == (400, "inputs[0].shape")
    assert "give [rows, 3] of numbers" in reply["error"]["message"]


def test_a_shape_that_promises_too_much_takes_no_memory():
    status, reply, _ = infer(NUMBERS, {"inputs": [{"name": "input", "shape": [10**15, 3], "datatype": "FP64", "data": [1.0]}]})
    assert (status, reply["error"]["param"]) == (400, "inputs[0].data")


def test_a_wrong_length_of_the_json_is_refused():
    body = json.dumps({"inputs": INPUTS}).encode()
    for length in (10, 10_000, -1):
        with pytest.raises(UsageError, match="Inference-Header-Content-Length"):
            SERVED.infer_reader.read(body, length)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(COLUMNS)), st.sampled_from(["data", "shape", "datatype", "name", "parameters"]), JSON, st.binary(max_size=9))
def test_whatever_a_field_holds_is_answered_or_refused_and_never_an_accident(name, field, value, binary):
    assert infer(SERVED, change(name, **{field: value}), binary)[0] in (200, 400, 413, 422)


def test_data_that_are_nested_deeply_beside_many_values_are_read_once():
    deep = b"[" * 900 + b"0" + b"]" * 900
    data = b"[" + b"0," * 200_000 + deep + b"]"
    body = b'{"inputs": [{"name": "input", "datatype": "FP64", "shape": [100, 2001], "data": %b}]}' % data
    lines = 0

    def count(frame, event, argument):
        nonlocal lines
        lines += 1
        assert lines < 20 * 200_000, "the values are read again and again"
        return count

    tracer = sys.gettrace()
    sys.settrace(count)
    try:
        with pytest.raises(UsageError, match="200001 values, and the shape"):
            NUMBERS.infer_reader.read(body, 0)
    finally:
        sys.settrace(tracer)
    assert lines > 200_000


def test_data_that_are_too_many_are_not_read_to_their_end():
    status, reply, _ = infer(NUMBERS, {"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, 3], "data": [[0.0] * 3, [0.0] * 3]}]})
    assert (status, reply["error"]["message"][:28]) == (400, "input 'input' has more value")
