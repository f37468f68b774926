"""Every optimizer of PyTorch against its namesake in torch.optim, and every one against itself cut into slices."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from aimass.core.errors import UsageError
from aimass.optim.adapter import TorchUpdate
from aimass.optim.config import METHODS, OptimizerConfig
from aimass.optim.update import Update, build_update

SIZE = 203

PEERS = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.0}),
    "adagrad": (torch.optim.Adagrad, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adadelta": (torch.optim.Adadelta, {}),
    "adamax": (torch.optim.Adamax, {}),
    "asgd": (torch.optim.ASGD, {}),
    "nadam": (torch.optim.NAdam, {}),
    "radam": (torch.optim.RAdam, {}),
    "rprop": (torch.optim.Rprop, {}),
}

OWN = {
    "ftrl": {"l1": 0.01, "l2": 0.1, "keep_start": True},
    "adagrad_da": {"l1": 0.01, "l2": 0.1, "keep_start": True},
    "proximal_sgd": {"l1": 0.01, "l2": 0.1, "box": (-1, 0.9)},
}

VARIANTS = [
    ({"name": "sgd", "momentum": 0.8, "nesterov": True}, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    ({"name": "momentum", "momentum": 0.5}, torch.optim.SGD, {"momentum": 0.5}),
    ({"name": "adam", "betas": (0.8, 0.95), "eps": 1e-6}, torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-6}),
    ({"name": "adam", "decoupled": True, "weight_decay": 0.1}, torch.optim.AdamW, {"weight_decay": 0.1}),
    ({"name": "adagrad", "initial_accumulator": 0.1}, torch.optim.Adagrad, {"initial_accumulator_value": 0.1}),
    (
        {"name": "rmsprop", "momentum": 0.9, "centered": True, "alpha": 0.9},
        torch.optim.RMSprop,
        {"momentum": 0.9, "centered": True, "alpha": 0.9},
    ),
    ({"name": "nadam", "options": {"momentum_decay": 0.01}}, torch.optim.NAdam, {"momentum_decay": 0.01}),
    (
        {"name": "nadam", "decoupled": True, "weight_decay": 0.1},
        torch.optim.NAdam,
        {"decoupled_weight_decay": True, "weight_decay": 0.1},
    ),
]


def gradient(p: Tensor, target: Tensor, step: int) -> Tensor:
    """A gradient that depends on p, so that a wrong step shows in every later one."""
    return (p - target) * torch.cos(torch.arange(SIZE) * 0.1 + step)


def ours(config: OptimizerConfig, steps: int, cuts: list[int] | None = None, update: Update | None = None) -> list[Tensor]:
    """p and the states after some steps, each applied to the slices between the cuts."""
    torch.manual_seed(0)
    p, target = torch.randn(SIZE), torch.randn(SIZE)
    update = update or build_update(config)
    states = [torch.full((SIZE,), update.initial.get(name, 0.0)) for name in update.states]
    edges = [0, *(cuts or []), SIZE]
    for step in range(1, steps + 1):
        g = gradient(p, target, step)
        before = g.clone()
        for a, b in pairwise(edges):
            update.apply(p[a:b], g[a:b], [state[a:b] for state in states], step, config.learning_rate, config.weight_decay)
        assert torch.equal(g, before)
    return [p, *states]


def torchs(optimizer_class: type[torch.optim.Optimizer], lr: float, steps: int, **keywords: object) -> Tensor:
    torch.manual_seed(0)
    p, target = torch.nn.Parameter(torch.randn(SIZE)), torch.randn(SIZE)
    optimizer = optimizer_class([p], lr=lr, **keywords)  # type: ignore[call-arg]
    for step in range(1, steps + 1):
        p.grad = gradient(p.detach(), target, step)
        optimizer.step()
    return p.detach()


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


def test_every_name_has_a_peer_here() -> None:
    assert PEERS.keys() == {name for name, method in METHODS.items() if method.torch_class}


@pytest.mark.parametrize("name", sorted(PEERS))
def test_equals_torch_after_100_steps(name: str) -> None:
    config = OptimizerConfig(name=name)
    optimizer_class, keywords = PEERS[name]
    assert_close(ours(config, 100)[0], torchs(optimizer_class, config.learning_rate, 100, **keywords))


@pytest.mark.parametrize("name", sorted(set(PEERS) - {"rprop"}))
def test_weight_decay_equals_torchs_own(name: str) -> None:
    config = OptimizerConfig(name=name, weight_decay=0.05)
    optimizer_class, keywords = PEERS[name]
    expected = torchs(optimizer_class, config.learning_rate, 100, **{**keywords, "weight_decay": 0.05})
    assert_close(ours(config, 100)[0], expected)
    assert not torch.allclose(expected, ours(OptimizerConfig(name=name), 100)[0], atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(PEERS) - {"adamw"}))
def test_decoupled_decay_shrinks_p_before_a_plain_step(name: str) -> None:
    config = OptimizerConfig(name=name, weight_decay=0.1, decoupled=True)
    optimizer_class, keywords = PEERS[name]
    torch.manual_seed(0)
    p, target = torch.nn.Parameter(torch.randn(SIZE)), torch.randn(SIZE)
    optimizer = optimizer_class([p], lr=config.learning_rate, **keywords)
    for step in range(1, 101):
        p.grad = gradient(p.detach(), target, step)
        with torch.no_grad():
            p.mul_(1 - config.learning_rate * 0.1)
        optimizer.step()
    assert_close(ours(config, 100)[0], p.detach())


@pytest.mark.parametrize(("settings", "optimizer_class", "keywords"), VARIANTS)
def test_settings_mean_what_they_mean_in_torch(settings: dict, optimizer_class: type, keywords: dict) -> None:
    config = OptimizerConfig.parse(settings)
    assert_close(ours(config, 100)[0], torchs(optimizer_class, config.learning_rate, 100, **keywords))


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("decoupled", [None, True], ids=["usual", "decoupled"])
def test_slices_give_the_bits_of_the_whole(name: str, decoupled: bool | None) -> None:
    decay = {} if METHODS[name].from_sums else {"weight_decay": 0.05, "decoupled": decoupled}
    config = OptimizerConfig(name=name, **OWN.get(name, {}), **decay)
    whole = ours(config, 20)
    for cuts in ([1, 2, 10, 17, 64, 65, 100], [16, 48, 192], [200]):
        for one, other in zip(whole, ours(config, 20, cuts), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("sgd", "_fused_sgd_"),
        ("momentum", "_fused_sgd_"),
        ("adam", "_fused_adam_"),
        ("adamw", "_fused_adamw_"),
        ("adagrad", "_fused_adagrad_"),
    ],
)
def test_without_a_fused_kernel_the_adapter_agrees(monkeypatch: pytest.MonkeyPatch, name: str, kernel: str) -> None:
    config = OptimizerConfig(name=name, weight_decay=0.01)
    fused = ours(config, 50)
    monkeypatch.delattr(torch, kernel)
    update = build_update(config)
    assert isinstance(update, TorchUpdate)
    assert update.states == build_update(config).states
    for one, other in zip(fused, ours(config, 50, update=update), strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("name", ["nadam", "adamax"])
def test_the_state_is_in_the_vectors_and_the_step_alone(name: str) -> None:
    """Two processes that take turns, and one that starts again from a snapshot, do what one process does."""
    config = OptimizerConfig(name=name)
    expected = ours(config, 40)
    torch.manual_seed(0)
    p, target = torch.randn(SIZE), torch.randn(SIZE)
    updates = [build_update(config), build_update(config)]
    states = [torch.full((SIZE,), updates[0].initial.get(state, 0.0)) for state in updates[0].states]
    for step in range(1, 41):
        if step == 30:
            updates = [build_update(config), build_update(config)]
        updates[step % 2].apply(p, gradient(p, target, step), states, step, config.learning_rate, 0.0)
    assert torch.equal(p, expected[0])


def test_an_older_step_than_the_last_can_be_asked_for() -> None:
    update = build_update(OptimizerConfig(name="nadam"))
    results = []
    for step in (500, 3, 500, 1):
        p, states = torch.ones(4), [torch.full((4,), 0.1) for _ in update.states]
        update.apply(p, torch.ones(4), states, step, 0.01, 0.0)
        results.append(p)
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


def test_an_update_travels_to_another_process() -> None:
    for name in METHODS:
        config = OptimizerConfig(name=name)
        update = pickle.loads(pickle.dumps(build_update(config)))
        assert torch.equal(ours(config, 5, update=update)[0], ours(config, 5)[0])


def test_keywords_that_torch_refuses() -> None:
    with pytest.raises(UsageError, match=r"torch\.optim\.NAdam refuses its settings .*'colour'"):
        build_update(OptimizerConfig(name="nadam", options={"colour": 1.0}))
