"""Clipping against torch.nn.utils."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from aimass.optim.clipping import clip_
from aimass.optim.config import ClipConfig


@pytest.fixture
def gradient() -> torch.Tensor:
    return torch.randn(1000, generator=torch.Generator().manual_seed(0))


def parameter_with(gradient: torch.Tensor) -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(torch.zeros_like(gradient))
    parameter.grad = gradient.clone()
    return parameter


@pytest.mark.parametrize("norm", [0.5, 10.0, 1e6])
def test_norm(gradient: torch.Tensor, norm: float) -> None:
    peer = parameter_with(gradient)
    expected_norm = clip_grad_norm_([peer], norm)
    assert clip_(gradient, ClipConfig(norm=norm)) == pytest.approx(float(expected_norm))
    torch.testing.assert_close(gradient, peer.grad)


def test_value(gradient: torch.Tensor) -> None:
    peer = parameter_with(gradient)
    clip_grad_value_([peer], 0.7)
    assert clip_(gradient, ClipConfig(value=0.7)) is None
    assert torch.equal(gradient, peer.grad)


def test_value_comes_before_norm(gradient: torch.Tensor) -> None:
    peer = parameter_with(gradient)
    clip_grad_value_([peer], 0.7)
    expected_norm = clip_grad_norm_([peer], 3.0)
    assert clip_(gradient, ClipConfig(value=0.7, norm=3.0)) == pytest.approx(float(expected_norm))
    torch.testing.assert_close(gradient, peer.grad)


def test_nothing_set_changes_nothing(gradient: torch.Tensor) -> None:
    before = gradient.clone()
    assert clip_(gradient, ClipConfig()) is None
    assert torch.equal(gradient, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stays_visible(gradient: torch.Tensor, bad: float) -> None:
    gradient[3] = bad
    norm = clip_(gradient, ClipConfig(norm=1.0))
    assert norm is not None
    assert not math.isfinite(norm)
    assert not bool(torch.isfinite(gradient).all())


def test_a_zero_gradient_stays_zero() -> None:
    gradient = torch.zeros(5)
    assert clip_(gradient, ClipConfig(norm=1.0)) == 0.0
    assert torch.equal(gradient, torch.zeros(5))
