"""Delay compensation and step scaling, against their formulas and against a replay with torch.optim."""

import pytest
import torch

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Pushed
from aimass.parameters.compensation import Compensation, build_compensation
from aimass.parameters.layout import SHARD_OWNER, SLOT_INTENT, Layout
from aimass.parameters.shared_memory import SharedMemoryServer

LENGTH = 1000
SETTINGS = {
    "constant": {"compensation": Compensation("constant", 0.5)},
    "adaptive": {"compensation": Compensation("adaptive", 2.0)},
    "scaled": {"scale_steps": True},
    "adaptive and scaled": {"compensation": Compensation("adaptive", 2.0), "scale_steps": True},
}


def make_pair(optimizer, lr, **options):
    """Two workers' handles on one server."""
    update, compensation = build_update(OptimizerConfig(name=optimizer)), options.get("compensation")
    layout = Layout(
        num_parameters=LENGTH,
        groups=((0, 700), (700, LENGTH)),
        states=(*update.states, *(compensation.states if compensation else ())),
        num_slots=2,
        shard_size=300,
        chunk_size=64,
        keeps_pulled=compensation is not None,
    )
    first = SharedMemoryServer.create(layout, update, lambda step: lr, slot=0, **options)
    return [
        first,
        SharedMemoryServer(first.memory, layout, build_update(OptimizerConfig(name=optimizer)), lambda step: lr, slot=1, **options),
    ]


def test_the_formulas():
    torch.manual_seed(0)
    g, now, pulled, mean = torch.randn(4, 500).unbind()
    exact = [vector.double() for vector in (g, now, pulled)]
    constant = exact[0] + 0.3 * exact[0] ** 2 * (exact[1] - exact[2])
    torch.testing.assert_close(Compensation("constant", 0.3).apply(g, now, pulled, ()), constant.float())
    mean = mean.abs()
    square = 0.95 * mean.double() + 0.05 * exact[0] ** 2
    adaptive = exact[0] + 2 / torch.sqrt(square + 1e-7) * exact[0] ** 2 * (exact[1] - exact[2])
    torch.testing.assert_close(Compensation("adaptive", 2.0).apply(g, now, pulled, [mean]), adaptive.float())
    torch.testing.assert_close(mean, square.float())


def test_a_gradient_that_is_not_stale_and_a_strength_of_0_change_nothing():
    g, now, pulled = torch.randn(3, 100).unbind()
    assert torch.equal(Compensation("adaptive", 2.0).apply(g, now, now, [torch.zeros(100)]), g)
    assert torch.equal(Compensation("constant", 0.0).apply(g, now, pulled, ()), g)
    assert build_compensation(None, None) is None


@pytest.mark.parametrize("kind", ["constant", "adaptive"])
def test_a_correction_that_overflows_is_left_out_where_it_does(kind):
    g, mean = torch.tensor([1e30, -1e30, 2.0, 0.0]), torch.zeros(4)
    compensation = Compensation(kind, 1.0)
    for _ in range(3):
        corrected = compensation.apply(g, torch.full((4,), 3.0), torch.tensor([3.0, 1.0, 2.0, 1.0]), [mean] * (kind == "adaptive"))
        assert torch.isfinite(corrected).all()
        assert torch.isfinite(mean).all()
        assert corrected[:2].tolist() == g[:2].tolist()
        assert corrected[2] > g[2]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("settings", sorted(SETTINGS))
def test_stale_pushes_equal_a_replay_with_torch(settings, optimizer):
    """Worker 1 pulls once in three pushes of worker 0, so that its gradients are stale."""
    torch.manual_seed(1)
    options = SETTINGS[settings]
    kind = options["compensation"].kind if "compensation" in options else None
    servers = make_pair(optimizer, 0.05, **options)
    start = torch.randn(LENGTH)
    servers[0].p.copy_(start)
    p = torch.nn.Parameter(start.clone())
    reference = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]([p], lr=0.05)
    copies, pulled, clocks, mean = [torch.zeros(LENGTH) for _ in servers], [start, start], [0, 0], torch.zeros(LENGTH)
    for turn in range(24):
        worker = int(turn % 4 == 3)
        if turn % 4 != 3 or turn == 3:
            clocks[worker] = servers[worker].pull(copies[worker])
            pulled[worker] = p.detach().clone()
        gradient = torch.randn(LENGTH)
        tau = turn - clocks[worker]
        away = p.detach() - pulled[worker]
        mean = 0.95 * mean + 0.05 * gradient**2
        strength = {None: 0.0, "constant": 0.5, "adaptive": 2.0 / torch.sqrt(mean + 1e-7)}[kind]
        p.grad = gradient + strength * gradient**2 * away
        reference.param_groups[0]["lr"] = 0.05 / (1 + tau) if options.get("scale_steps") else 0.05
        reference.step()
        assert servers[worker].push(gradient, clocks[worker]) is Pushed.APPLIED
    torch.testing.assert_close(servers[0].p, p.data, atol=2e-5, rtol=2e-5)


class Killed(Exception):
    """Stands for SIGKILL inside one process."""


@pytest.mark.parametrize("dies_at", range(1, 21))
@pytest.mark.parametrize("settings", ["constant", "adaptive and scaled"])
def test_another_process_finishes_the_very_same_push(settings, dies_at):
    torch.manual_seed(2)
    gradients = torch.randn(4, LENGTH).unbind()
    pairs = [make_pair("adam", 0.05, **SETTINGS[settings]) for _ in range(2)]
    clocks = []
    for first, second in pairs:
        first.p.copy_(torch.linspace(-1, 1, LENGTH))
        out = torch.zeros(LENGTH)
        clocks.append(second.pull(out))
        for gradient in gradients[:3]:
            first.push(gradient, first.pull(out))
    first, dying = pairs[0]
    calls, apply = 0, dying.update.apply

    def apply_half_and_die(p, gradient, states, *rest):
        nonlocal calls
        calls += 1
        if calls == dies_at:
            half = len(p) // 2
            apply(p[:half], gradient[:half], [state[:half] for state in states], *rest)
            raise Killed
        apply(p, gradient, states, *rest)

    dying.update.apply = apply_half_and_die
    try:
        dying.push(gradients[3], clocks[0])
    except Killed:
        for shard in dying.shards:
            dying.locks.release(shard.index)  # as the kernel does for a dead process
        assert first.words[first.layout.slot(1) + SLOT_INTENT]
        assert first.recover(1)
    pairs[1][1].push(gradients[3], clocks[1])
    assert torch.equal(first.p, pairs[1][0].p)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first.states, pairs[1][0].states, strict=True))
    assert not any(first.words[shard.words + SHARD_OWNER] for shard in first.shards)


def test_what_is_pulled_elsewhere_is_compensated_as_well():
    settings = SETTINGS["constant"]
    (first, second), (other, here) = make_pair("sgd", 0.1, **settings), make_pair("sgd", 0.1, **settings)
    g = torch.full((LENGTH,), 2.0)
    clock = second.pull(torch.zeros(LENGTH))
    assert here.pull(here.pulled) == clock
    for server in (first, other):
        server.push(g, 0)
    second.push(g, clock)
    here.push(g, clock)
    assert torch.equal(first.p, other.p)
    torch.testing.assert_close(first.p, torch.full((LENGTH,), -0.2 - 0.1 * (2 - 0.5 * 4 * 0.2)))
