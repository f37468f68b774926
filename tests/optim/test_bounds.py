"""Bounds of weights against torch's own decay and against closed forms."""

import pytest
import torch

from aimass.optim.bounds import Bounded, Bounds
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import SGD, build_update

P = torch.linspace(-2, 2, 9)
G = torch.tensor([1.0, -1.0, 0.5, 0.0, 0.2, -0.1, 0.0, 2.0, -3.0])


def bounded(update=None, *, lr=0.1, share=1.0, **bounds):
    p = P.clone()
    Bounded(update or SGD(), Bounds(**bounds)).apply(p, G, (), step=1, lr=lr, weight_decay=share)
    return p


@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad"])
def test_l2_equals_torchs_coupled_weight_decay(name):
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}
    reference = torch.nn.Parameter(P.clone())
    optimizer = kinds[name]([reference], lr=0.1, weight_decay=0.3)
    update = Bounded(build_update(OptimizerConfig(name=name)), Bounds(strength=0.2, weight_decay=0.1))
    p, states = P.clone(), [torch.zeros(9) for _ in update.states]
    for step in range(1, 6):
        reference.grad = G * step
        optimizer.step()
        update.apply(p, G * step, states, step=step, lr=0.1, weight_decay=1.0)
    torch.testing.assert_close(p, reference.data, atol=1e-6, rtol=1e-6)


def test_l1_shrinkage_and_range_are_their_formulas():
    torch.testing.assert_close(bounded(strength=0.2, kind="l1"), P - 0.1 * (G + 0.2 * P.sign()))
    torch.testing.assert_close(bounded(shrinkage=0.3), torch.nn.functional.softshrink(P - 0.1 * G, 0.3))
    torch.testing.assert_close(bounded(range=(-1.0, 0.5)), (P - 0.1 * G).clamp(-1.0, 0.5))


def test_biases_are_not_pulled_to_zero_but_kept_in_the_range():
    assert torch.equal(bounded(share=0.0, strength=0.2, shrinkage=0.3, weight_decay=0.1), P - 0.1 * G)
    assert bounded(share=0.0, range=(-1.0, 1.0)).abs().max() == 1.0


def test_the_gradient_is_left_as_it_is():
    before = G.clone()
    bounded(strength=0.2, kind="l1", shrinkage=0.1)
    assert torch.equal(G, before)
