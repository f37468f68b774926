"""Proximal gradient descent against closed forms, and against the lasso that it solves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aimass.core.errors import UsageError
from aimass.optim import ProximalSGD
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update

SIZE = 203
INFINITY = float("inf")


def stepped(p: Tensor, gradient: Tensor, **settings: object) -> Tensor:
    """One step of the update, and the same by the class of torch."""
    flat, parameter = p.clone(), torch.nn.Parameter(p.clone())
    config = OptimizerConfig(name="proximal_sgd", **settings)
    build_update(config).apply(flat, gradient, (), 1, config.learning_rate, 0.0)
    parameter.grad = gradient.clone()
    ProximalSGD([parameter], **settings).step()
    assert torch.equal(parameter.data, flat)
    return flat


@pytest.mark.parametrize("l1", [0.0, 0.7])
@pytest.mark.parametrize("l2", [0.0, 1.5])
@pytest.mark.parametrize("box", [None, (-0.3, 0.5), (0, None), (None, 0.2)])
def test_no_other_point_is_nearer_and_cheaper(l1: float, l2: float, box: tuple | None) -> None:
    """prox(v) minimises ½(x − v)² + lr·(l1·|x| + ½·l2·x²) over the box: against a fine grid."""
    p, gradient, lr = torch.linspace(-2, 2, SIZE), torch.linspace(1, -1, SIZE), 0.4
    found = stepped(p, gradient, lr=lr, l1=l1, l2=l2, box=box).double()
    v = (p - lr * gradient).double()
    low, high = (-INFINITY, INFINITY) if box is None else (-INFINITY if box[0] is None else box[0], INFINITY if box[1] is None else box[1])
    grid = torch.linspace(-3, 3, 2401, dtype=torch.double)
    grid = grid[(grid >= low) & (grid <= high)]

    def cost(x: Tensor) -> Tensor:
        return 0.5 * (x - v[..., None]) ** 2 + lr * (l1 * x.abs() + 0.5 * l2 * x**2)

    assert ((found >= low - 1e-6) & (found <= high + 1e-6)).all()
    assert (cost(found[:, None])[:, 0] <= cost(grid[None]).min(1).values + 1e-6).all()


def test_small_steps_become_exact_zeros() -> None:
    found = stepped(torch.tensor([0.3, -0.2, 0.5, 1.0]), torch.zeros(4), lr=0.5, l1=1.0)
    assert found.tolist() == [0.0, 0.0, 0.0, 0.5]


def test_it_solves_a_lasso() -> None:
    """Orthogonal features: the lasso's solution is the soft threshold of the correlations."""
    torch.manual_seed(3)
    features = torch.linalg.qr(torch.randn(50, 8))[0]
    targets = torch.randn(50)
    p = torch.nn.Parameter(torch.zeros(8))
    optimizer = ProximalSGD([p], lr=0.5, l1=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        (0.5 * (features @ p - targets).square().sum()).backward()
        optimizer.step()
    correlation = features.T @ targets
    torch.testing.assert_close(p.data, correlation.sign() * (correlation.abs() - 0.3).clamp(min=0), rtol=0, atol=1e-6)
    assert 0 < p.count_nonzero() < 8


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.6)])
def test_a_group_is_zero_or_shrunk_as_a_whole(l1: float, l2: float) -> None:
    torch.manual_seed(5)
    p, lr, group = torch.nn.Parameter(torch.randn(12, 9)), 0.5, 0.55
    v = p.data.clone()
    optimizer = ProximalSGD([p], lr=lr, l1=l1, l2=l2, group=group)
    p.grad = torch.zeros(12, 9)
    optimizer.step()
    shrunk = v.sign() * (v.abs() - lr * l1).clamp(min=0)
    expected = (1 - lr * group * 3 / shrunk.norm(dim=1, keepdim=True)).clamp(min=0) * shrunk / (1 + lr * l2)
    torch.testing.assert_close(p.data, expected)
    x = p.data.clone().requires_grad_()
    (0.5 * (x - v).square().sum() + lr * (l1 * x.abs().sum() + 0.5 * l2 * x.square().sum() + group * 3 * x.norm(dim=1).sum())).backward()
    alive = (p.data != 0).all(1)
    assert alive.any()
    torch.testing.assert_close(x.grad[alive], torch.zeros_like(x.grad[alive]), rtol=0, atol=1e-5)  # where it is smooth, the slope is 0


def test_dead_rows_are_exactly_zero() -> None:
    p = torch.nn.Parameter(torch.tensor([[0.1, 0.1], [3.0, 4.0]]))
    optimizer = ProximalSGD([p], lr=1.0, group=1.0)
    p.grad = torch.zeros(2, 2)
    optimizer.step()
    assert not p[0].any()
    optimizer.step()
    assert p.isfinite().all()


def test_settings_that_cannot_work() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(UsageError, match="the lower bound comes first"):
        OptimizerConfig(name="proximal_sgd", box=(1, -1))
    with pytest.raises(UsageError, match="group and box have no common closed form"):
        ProximalSGD([parameter], group=1.0, box=(0, 1))
    with pytest.raises(UsageError, match="group=-1"):
        ProximalSGD([parameter], group=-1)
    with pytest.raises(UsageError, match=r"group shrinks whole rows .* may cut a row; use l1"):
        OptimizerConfig.parse({"name": "proximal_sgd", "group": 0.1})
