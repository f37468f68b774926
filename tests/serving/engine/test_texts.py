"""A language model in an engine: rows with a text are answered with how it goes on."""

import pytest
import torch
from serving.engine.asking import infer, loaded, predict, together

from aimass.data import load
from aimass.data.text import with_context
from aimass.models.config import build_module, parse_model
from aimass.models.model import Model


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    encoder = with_context(load({"text": ["to be or not to be " * 20]}, task="language"), 8).encoder
    config = parse_model({"name": "transformer", "layers": 1, "heads": 1, "width": 8, "context": 8})
    return Model(module=build_module(config, 0, encoder.cardinalities, 256), encoder=encoder, config=config)


def test_texts_go_on_as_the_model_goes_on(model):
    rows = [{"text": "to be"}, {"text": "or not to be, that is the question"}, {"text": ""}, {"text": "né"}]
    status, reply = predict(loaded(model), rows)
    assert (status, reply["predictions"]) == (200, model.predict(rows))


def test_what_is_no_text_fails_alone(model):
    bodies = [b'{"instances": [{"text": 3}]}', b'{"instances": [{"words": "a"}]}', b'{"instances": [{"text": "a"}]}']
    assert [status for status, _ in together(loaded(model), bodies)] == [422, 422, 200]
    status, reply = predict(loaded(model), [{"text": "a"}] * 65)
    assert (status, reply["error"]["message"][:40]) == (413, "there are 65 rows, and one request may h")


def test_the_open_inference_protocol_leads_to_predict(model):
    status, reply, _ = infer(loaded(model), {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]})
    assert status == 400
    assert "goes on with text by :predict" in reply["error"]["message"]
