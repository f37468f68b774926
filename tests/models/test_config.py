"""Naming a model: from Python, JSON and the command line."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from aimass.core.config import Config, nest
from aimass.core.errors import UsageError
from aimass.models.config import CustomConfig, ModelConfig, build_module, parse_model
from aimass.models.families.linear import LinearConfig
from aimass.models.families.mlp import MLPConfig


class Tree(Config):
    model: ModelConfig = MLPConfig()


def test_a_name_a_mapping_and_settings_say_the_same():
    assert parse_model("mlp") == parse_model({"name": "mlp"}) == parse_model(MLPConfig()) == MLPConfig()
    assert parse_model({"name": "mlp", "hidden": [8], "dropout": 0.1}) == MLPConfig(hidden=(8,), dropout=0.1)


@pytest.mark.parametrize(("name", "expected"), [("Logistic", LinearConfig()), ("softmax-regression", LinearConfig()), ("DNN", MLPConfig())])
def test_other_words_for_a_family(name, expected):
    assert parse_model(name) == expected


@pytest.mark.parametrize(
    ("written", "expected"), [("32,16", (32, 16)), ("(32, 16)", (32, 16)), ("[32]", (32,)), (32, (32,)), ([], ()), ("", ())]
)
def test_hidden_widths_as_people_write_them(written, expected):
    assert parse_model({"name": "mlp", "hidden": written}).hidden == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("mpl", r"no model 'mpl'; did you mean 'mlp'\? Known: .*linear, mlp"),
        ({"name": "mlp", "hiden": (8,)}, r"no setting 'model.hiden'; did you mean 'model.hidden'"),
        (
            {"name": "linear", "hidden": (8,)},
            r"model.hidden is a setting of cnn and mlp, and not of linear; .* set model to 'cnn' or 'mlp'",
        ),
        (
            {"name": "dnn", "layers": 1},
            r"model.layers is a setting of transformer, and not of mlp; leave it out, or set model to 'transfor",
        ),
        ({"name": "mlp", "dropout": 1.0}, r"model.dropout=1.0: input should be less than 1"),
        ({"name": "mlp", "hidden": "8,x"}, r"model.hidden.1='x': input should be a valid integer"),
        ({"name": "mlp", "hidden": (0,)}, r"model.hidden.0=0: input should be greater"),
        ({"name": "mlp", "activation": "rule"}, r"model.activation='rule': input should be 'relu', 'gelu', 'silu' or 'tanh'"),
        ({"hidden": (8,)}, r"names no model; give a name such as 'mlp'"),
        (3, r"model=3 names no model"),
        (nn.Linear, r"names no model"),
    ],
)
def test_what_is_wrong_is_said(value, message):
    with pytest.raises(UsageError, match=message):
        parse_model(value)


def test_a_module_is_named_after_its_class():
    assert parse_model(nn.Linear(2, 2)) == CustomConfig(module="torch.nn.modules.linear.Linear")


def test_a_tree_holds_a_familys_own_fields_through_json():
    tree = Tree.parse(nest({"model": "mlp", "model.hidden": "4,3"}))
    assert tree.model == MLPConfig(hidden=(4, 3))
    assert Tree.model_validate_json(tree.model_dump_json()) == tree
    assert Tree.parse({"model": "linear"}).model == LinearConfig()
    custom = Tree.parse({"model": nn.Linear(2, 2)})
    assert Tree.parse(custom.model_dump(mode="json")) == custom


def test_a_network_is_built_from_settings():
    module = build_module(MLPConfig(hidden=(8,)), num_numbers=3, cardinalities=(4,), num_outputs=2)
    assert module(torch.zeros(5, 3), torch.zeros(5, 1, dtype=torch.int64)).shape == (5, 2)


def test_a_custom_network_cannot_be_built_from_settings():
    with pytest.raises(UsageError, match=r"pass the torch.nn.Module itself"):
        build_module(CustomConfig(), 3, (), 2)


def test_settings_do_not_import_torch():
    code = "import sys, aimass.models.config as c; c.parse_model('mlp'); c.parse_model('linear'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
