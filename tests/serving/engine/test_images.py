"""Images as rows of a request: pixels, or the base64 of an image file."""

import base64
import io

import numpy as np
import pytest
import torch
from pictures import squares
from PIL import Image
from serving.engine.asking import infer, loaded, predict, together

from aimass.data import load
from aimass.models.config import build_module, parse_model
from aimass.models.model import Model
from aimass.serving.oip import metadata

PIXELS, LABELS = squares(12)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    encoder = load({"image": PIXELS, "label": LABELS}, "label").encoder
    config = parse_model({"name": "cnn", "channels": 4, "hidden": 8, "image": "6x6"})
    return Model(module=build_module(config, 36, (), 1), encoder=encoder, config=config)


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_pixels_and_files_are_answered_as_the_model_does(model):
    served = loaded(model)
    rows = [{"image": PIXELS[0].tolist()}, {"image": PIXELS[1].ravel().tolist()}, {"image": encoded(PIXELS[2])}]
    status, reply = predict(served, rows)
    assert status == 200
    answers = reply["predictions"]
    expected = model.predict([{"image": image} for image in PIXELS[:3]])
    assert [answer["prediction"] for answer in answers] == [each["prediction"] for each in expected]
    np.testing.assert_allclose([answer["probability"] for answer in answers], [each["probability"] for each in expected], rtol=1e-5)


def test_the_open_inference_protocol_has_them_as_tensors(model):
    [given] = metadata("sides", [1], model.signature())["inputs"]
    assert given == {"name": "image", "datatype": "UINT8", "shape": [-1, 6, 6]}
    served = loaded(model)
    _, reply, _ = infer(served, {"inputs": [{**given, "shape": [3, 6, 6], "data": PIXELS[:3].ravel().tolist()}]})
    _, texts, _ = infer(
        served, {"inputs": [{**given, "datatype": "BYTES", "shape": [3], "data": [encoded(image) for image in PIXELS[:3]]}]}
    )
    assert reply["outputs"][0]["data"] == texts["outputs"][0]["data"]
    assert reply["outputs"][0]["data"] == [each["prediction"] for each in model.predict([{"image": image} for image in PIXELS[:3]])]


def test_a_row_that_is_no_image_fails_alone(model):
    bodies = [b'{"instances": [{"image": [1, 2]}]}', b'{"instances": [{"picture": 1}]}', b'{"instances": [{"image": "AAAA"}]}']
    for status, reply in together(loaded(model), bodies):
        assert status == 422
        assert "image" in reply["error"]["message"]
