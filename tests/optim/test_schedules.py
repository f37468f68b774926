"""Schedules against torch.optim.lr_scheduler."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from aimass.core.errors import UsageError
from aimass.optim.config import ScheduleConfig
from aimass.optim.schedules import factor


def rates_of(make: object, steps: int) -> list[float]:
    """The factors that a torch scheduler gives."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)  # type: ignore[operator]
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def ours(steps: int, total: int | None = None, **settings: object) -> list[float]:
    config = ScheduleConfig.parse(settings)
    return [factor(config, step, total) for step in range(steps)]


def after_warmup(optimizer: torch.optim.Optimizer, steps: int, then: object) -> lr_scheduler.LRScheduler:
    rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / steps, end_factor=1.0, total_iters=steps - 1)
    return lr_scheduler.SequentialLR(optimizer, [rise, then(optimizer)], milestones=[steps])  # type: ignore[operator]


def test_constant() -> None:
    assert ours(5, name="constant") == rates_of(lambda o: lr_scheduler.ConstantLR(o, factor=1.0), 5)


def test_constant_after_a_warmup() -> None:
    expected = rates_of(lambda o: after_warmup(o, 4, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)), 10)
    assert ours(10, warmup_steps=4) == pytest.approx(expected)


def test_cosine() -> None:
    expected = rates_of(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=20, eta_min=0.1), 21)
    assert ours(21, 20, name="cosine", min_factor=0.1) == pytest.approx(expected)


def test_cosine_stays_at_its_end() -> None:
    assert ours(30, 20, name="cosine", min_factor=0.1)[20:] == pytest.approx([0.1] * 10)


def test_cosine_after_a_warmup() -> None:
    expected = rates_of(lambda o: after_warmup(o, 5, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=15)), 20)
    assert ours(20, 20, name="cosine", warmup_steps=5) == pytest.approx(expected)


def test_cosine_with_a_warmup_longer_than_training() -> None:
    assert ours(3, 3, name="cosine", warmup_steps=6) == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_cosine_without_an_end() -> None:
    with pytest.raises(UsageError, match="needs to know where training ends; give epochs or max_steps"):
        factor(ScheduleConfig(name="cosine", warmup_steps=5), 0, None)


def test_step() -> None:
    expected = rates_of(lambda o: lr_scheduler.StepLR(o, step_size=3, gamma=0.5), 20)
    assert ours(20, name="step", step_size=3, gamma=0.5) == pytest.approx(expected)


def test_step_after_a_warmup() -> None:
    expected = rates_of(lambda o: after_warmup(o, 4, lambda o: lr_scheduler.StepLR(o, step_size=3, gamma=0.5)), 20)
    assert ours(20, name="step", step_size=3, gamma=0.5, warmup_steps=4) == pytest.approx(expected)


def test_inverse_sqrt() -> None:
    expected = rates_of(lambda o: lr_scheduler.LambdaLR(o, lambda t: (t + 1) ** -0.5), 20)
    assert ours(20, name="inverse_sqrt") == pytest.approx(expected)


def test_inverse_sqrt_after_a_warmup_is_the_transformers() -> None:
    warmup = 6
    expected = [min((t + 1) ** -0.5, (t + 1) * warmup**-1.5) * warmup**0.5 for t in range(30)]
    assert ours(30, name="inverse_sqrt", warmup_steps=warmup) == pytest.approx(expected)
