"""Dual averaging against its closed form, computed anew from all gradients in double precision."""

from __future__ import annotations

import pytest
import torch

from aimass.core.errors import UsageError
from aimass.optim import AdagradDA
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update

SIZE = 203
VARIANTS = [{}, {"l1": 0.2}, {"l2": 0.3}, {"l1": 0.1, "l2": 0.05, "lr": 0.5}, {"initial_accumulator": 2.0, "l1": 0.1, "keep_start": True}]


def gradients(steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(SIZE, generator=generator) + torch.linspace(-0.5, 0.5, SIZE) for _ in range(steps)]


def start() -> torch.Tensor:
    return torch.linspace(-1, 1, SIZE)


def stepped(settings: dict, found: list[torch.Tensor], factors: list[float] | None = None) -> torch.Tensor:
    config = OptimizerConfig(name="adagrad_da", **settings)
    update, p = build_update(config), start()
    states = [torch.full((SIZE,), update.initial.get(name, 0.0)) for name in update.states]
    for step, gradient in enumerate(found, 1):
        update.apply(p, gradient, states, step, config.learning_rate * (factors[step - 1] if factors else 1.0), 0.0)
    return p


def closed_form(found: list[torch.Tensor], lr=0.1, initial_accumulator=0.1, l1=0.0, l2=0.0, keep_start=False) -> torch.Tensor:
    """argmin ⟨Σg, x⟩ + t·l1·‖x‖₁ + ½·t·l2·‖x‖² + 1/(2·lr)·⟨x − x₀, √s (x − x₀)⟩."""
    all_of_them = torch.stack(found).double()
    metric = (initial_accumulator + all_of_them.square().sum(0)).sqrt() / lr
    origin = start().double() * keep_start
    slope = all_of_them.sum(0) - metric * origin
    beyond = (slope.abs() - len(found) * l1).clamp(min=0)
    return (-slope.sign() * beyond / (metric + len(found) * l2)).float()


@pytest.mark.parametrize("settings", VARIANTS)
def test_it_is_its_closed_form(settings: dict) -> None:
    found = gradients(40)
    for steps in (1, 7, 40):
        torch.testing.assert_close(stepped(settings, found[:steps]), closed_form(found[:steps], **settings), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_class_of_torch_and_the_update_are_one(settings: dict) -> None:
    found, p = gradients(10), torch.nn.Parameter(start())
    optimizer = AdagradDA([p], **settings)
    for gradient in found:
        p.grad = gradient.clone()
        optimizer.step()
    assert torch.equal(p.data, stepped(settings, found))


def test_no_other_point_is_better() -> None:
    """The closed form itself, against what it claims to minimise."""
    found = gradients(9)
    best = closed_form(found, l1=0.2, l2=0.1).double()

    def value(x: torch.Tensor) -> torch.Tensor:
        metric = (0.1 + torch.stack(found).double().square().sum(0)).sqrt() / 0.1
        return sum(found).double() * x + 9 * 0.2 * x.abs() + 0.5 * 9 * 0.1 * x**2 + 0.5 * metric * x**2

    for moved in (best + 1e-3, best - 1e-3, torch.zeros(SIZE, dtype=torch.double)):
        assert (value(moved) >= value(best) - 1e-9).all()


def test_features_without_a_say_are_exactly_zero() -> None:
    p = stepped({"l1": 0.4}, gradients(60))
    assert 0 < p.count_nonzero() < SIZE
    middle = p[80:120]  # whose mean gradient is below the penalty
    assert not middle.any()


def test_a_changing_rate_moves_nothing_by_itself() -> None:
    found = gradients(12)
    still = stepped({}, [*found, torch.zeros(SIZE)])
    torch.testing.assert_close(stepped({}, [*found, torch.zeros(SIZE)], [1.0] * 12 + [0.1]), still)


def test_settings_that_cannot_work() -> None:
    with pytest.raises(UsageError, match="set initial_accumulator above 0"):
        OptimizerConfig(name="adagrad_da", initial_accumulator=0)
    with pytest.raises(UsageError, match="which weight decay does not reach"):
        OptimizerConfig(name="dual_averaging", weight_decay=0.1)
    with pytest.raises(UsageError, match="beta is not a setting of the optimizer 'adagrad_da'"):
        OptimizerConfig(name="AdagradDA", beta=1.0)
