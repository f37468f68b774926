"""What is left of a model on disk, and what is told where it is damaged."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from aimass.core.errors import AimassError, DataError, NotFound, UsageError
from aimass.data import load
from aimass.models.config import build_module, parse_model
from aimass.models.model import Model


@pytest.fixture
def saved(tmp_path):
    encoder, config = load({"a": [1.0, 2.0, 3.0, 4.0] * 5, "y": ["p", "q"] * 10}, target="y").encoder, parse_model("mlp")
    module = build_module(config, encoder.num_numbers, encoder.cardinalities, 2)
    return Model(module=module, encoder=encoder, config=config).save(tmp_path / "model")


def test_what_is_no_model(tmp_path, saved):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    for path in (tmp_path / "nowhere", tmp_path / "empty", tmp_path / "file"):
        with pytest.raises(NotFound, match=r"is no model: it has no model.json"):
            Model.load(path)


def test_a_newer_format(saved):
    description = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(DataError, match=r"saved by a newer release \(format 99, and this one reads 1\); update aimass"):
        Model.load(saved)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
def test_truncated_tensors(saved, kept):
    tensors = saved / "model.safetensors"
    content = tensors.read_bytes()
    tensors.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=r"damaged or missing .*; save the model again"):
        Model.load(saved)


def test_tensors_that_are_gone(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(DataError, match="damaged or missing"):
        Model.load(saved)


def test_a_tensor_of_another_shape(saved):
    tensors = load_file(saved / "model.safetensors")
    save_file({**tensors, "layers.0.bias": torch.zeros(3)}, saved / "model.safetensors")
    with pytest.raises(UsageError, match=r"'layers.0.bias' has shape \(3,\) in .* and \(128,\) in the network; save the model again"):
        Model.load(saved)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"format": "x"}', '{"format": 1}', '{"format": 1, "config": "mlp"}', "\x00\x01"])
def test_a_description_that_is_damaged(saved, content):
    (saved / "model.json").write_text(content)
    with pytest.raises(DataError, match=r"model.json.*save the model again"):
        Model.load(saved)


@pytest.mark.parametrize("name", ["config", "encoder"])
@pytest.mark.parametrize("value", [None, 3, [], {}, {"name": "mlp", "surprise": 1}, {"version": 1, "task": "nonsense"}])
def test_no_damage_ends_in_a_traceback(saved, name, value):
    description = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps({**description, name: value}))
    with pytest.raises(AimassError):
        Model.load(saved)
