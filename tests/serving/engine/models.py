"""Small models of every kind, with weights that are not zero, built without training."""

import numpy as np
import pyarrow as pa
import torch

from aimass.data import Column, Encoder, Schema
from aimass.models.config import build_module, parse_model
from aimass.models.model import Model
from aimass.models.tasks import task_of

KINDS = {"age": "numeric", "plan": "categorical", "member": "boolean", "income": "numeric", "zip": "categorical"}
TARGETS = {
    "binary": ("categorical", ["no", "yes", "no", "yes"]),
    "binary-boolean": ("boolean", [True, False, True, True]),
    "multiclass": ("categorical", ["red", 'gr"een', "blue", "red"]),
    "multiclass-digits": ("categorical", ["0", "1", "2", "1"]),
    "regression": ("numeric", [1.0, 250.0, -3.5, 17.25]),
}
NUMERIC = {
    "a": [1.0, 2.0, 3.5, 9.0],
    "b": [0.001, 0.002, -0.5, 0.0],
    "c": [1e6, 2e6, 3e6, 3e6],
}
MIXED = {
    "age": [20.0, 40.5, None, 61.25],
    "plan": ["gold", "free", None, "gold"],
    "member": [True, None, False, True],
    "income": [1e5, 3e4, 2.5e4, 0.0],
    "zip": ["10115", "0", "1.5", "True"],
}


def build(columns, kinds, target, family="linear", missing=(), seed=0):
    """A model on columns, with random weights."""
    kind, values = TARGETS[target]
    table = pa.table({**columns, "target": values})
    schema = Schema(Column(name=name, kind=each) for name, each in {**kinds, "target": kind}.items())
    task = target.split("-")[0]
    encoder = Encoder.fit(table, schema, task, target="target", missing=missing)
    config = parse_model(family)
    outputs = task_of(encoder).num_outputs(encoder.classes)
    module = build_module(config, encoder.num_numbers, encoder.cardinalities, outputs)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return Model(module=module, encoder=encoder, config=config)


def numeric(target="multiclass", family="linear", **options):
    return build(NUMERIC, dict.fromkeys(NUMERIC, "numeric"), target, family, **options)


def mixed(target="multiclass", family="linear", **options):
    return build(MIXED, KINDS, target, family, **options)


def digits(family="mlp"):
    """Sixty-four numbers and ten classes."""
    random = np.random.default_rng(0)
    columns = {f"pixel_{place}": random.integers(0, 17, 4).astype(float).tolist() for place in range(64)}
    return build(columns, dict.fromkeys(columns, "numeric"), "multiclass-digits", family)
