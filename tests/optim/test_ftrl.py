"""FTRL-Proximal against Keras's, and what makes it more than a formula: zeros, schedules, a start of one's own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from aimass.core.errors import UsageError
from aimass.optim import Ftrl
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update

SIZE = 203

KERAS = """
import json, os, sys
os.environ["KERAS_BACKEND"] = "torch"
import keras, torch
runs = json.load(sys.stdin)
found = []
for run in runs:
    variable = keras.Variable(torch.tensor(run["start"]))
    optimizer = keras.optimizers.Ftrl(**run["settings"])
    optimizer.build([variable])
    for gradient in run["gradients"]:
        optimizer.apply([torch.tensor(gradient)], [variable])
    found.append(variable.value.detach().tolist())
json.dump(found, sys.stdout)
"""

OURS_AND_KERAS = [
    ({}, {}),
    ({"l1": 0.05}, {"l1_regularization_strength": 0.05}),
    ({"l2": 0.3}, {"l2_regularization_strength": 0.3}),
    ({"l1": 0.02, "l2_shrinkage": 0.05}, {"l1_regularization_strength": 0.02, "l2_shrinkage_regularization_strength": 0.05}),
    ({"beta": 0.5, "initial_accumulator": 0.7}, {"beta": 0.5, "initial_accumulator_value": 0.7}),
    ({"lr_power": -0.7, "l1": 0.01}, {"learning_rate_power": -0.7, "l1_regularization_strength": 0.01}),
    ({"lr_power": 0.0}, {"learning_rate_power": 0.0}),
]


def gradients(steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(SIZE, generator=generator) for _ in range(steps)]


def start() -> torch.Tensor:
    return torch.linspace(-1, 1, SIZE)


def by_update(settings: dict, found: list[torch.Tensor], factors: list[float] | None = None) -> torch.Tensor:
    config = OptimizerConfig(name="ftrl", **settings)
    update, p = build_update(config), start()
    states = [torch.full((SIZE,), update.initial.get(name, 0.0)) for name in update.states]
    for step, gradient in enumerate(found, 1):
        update.apply(p, gradient, states, step, config.learning_rate * (factors[step - 1] if factors else 1.0), 0.0)
    return p


def test_it_equals_keras() -> None:
    found = gradients(30)
    asked = [
        {"start": start().tolist(), "gradients": [g.tolist() for g in found], "settings": {"learning_rate": 0.1, **keras}}
        for _, keras in OURS_AND_KERAS
    ]
    done = subprocess.run([sys.executable, "-c", KERAS], input=json.dumps(asked), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    for (settings, _), expected in zip(OURS_AND_KERAS, json.loads(done.stdout), strict=True):
        torch.testing.assert_close(by_update({"lr": 0.1, **settings}, found), torch.tensor(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("settings", [settings for settings, _ in OURS_AND_KERAS])
def test_the_class_of_torch_and_the_update_are_one(settings: dict) -> None:
    found, p = gradients(10), torch.nn.Parameter(start())
    optimizer = Ftrl([p], **settings)
    for gradient in found:
        p.grad = gradient.clone()
        optimizer.step()
    assert torch.equal(p.data, by_update(settings, found))


def test_what_the_penalty_outweighs_is_exactly_zero() -> None:
    found = [torch.cat([gradient[:100] * 0.01, gradient[100:]]) for gradient in gradients(20)]
    p = by_update({"l1": 1.0}, found)
    assert not p[:100].any()
    assert p[100:].count_nonzero() > 50


def test_a_changing_rate_weighs_the_gradient_and_moves_nothing_by_itself() -> None:
    found = gradients(12)
    still = by_update({"l1": 0.01}, [*found, torch.zeros(SIZE)])
    for factor in (0.0, 0.5, 3.0):
        torch.testing.assert_close(by_update({"l1": 0.01}, [*found, torch.zeros(SIZE)], [1.0] * 12 + [factor]), still)
    assert not torch.allclose(by_update({}, found, [1.0] * 6 + [0.5] * 6), by_update({}, found))


def test_a_start_is_kept_or_counts_for_nothing() -> None:
    zeros = [torch.zeros(SIZE)]
    assert not by_update({}, zeros).any()
    torch.testing.assert_close(by_update({"keep_start": True}, zeros), start())
    torch.testing.assert_close(by_update({"keep_start": True, "beta": 2.0, "lr_power": -0.6}, zeros * 3), start())


def test_settings_that_cannot_work() -> None:
    with pytest.raises(UsageError, match="would divide 0 by 0 where a gradient is 0; set initial_accumulator or beta above 0"):
        OptimizerConfig(name="ftrl", initial_accumulator=0)
    with pytest.raises(UsageError, match="which weight decay does not reach; set l2"):
        OptimizerConfig(name="ftrl", weight_decay=0.1)
    with pytest.raises(UsageError, match="lr_power"):
        Ftrl([torch.nn.Parameter(start())], lr_power=0.5)
    assert OptimizerConfig(name="FTRL-Proximal", initial_accumulator=0, beta=1).learning_rate == 0.1
