"""The contract of a parameter server, over every implementation."""

import pytest
import torch

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.handing import HandingServer
from aimass.parameters.layout import LEASE_COMMITTED, LEASE_EPOCH, LEASE_NUMBER, LEASE_OWNER, SHARD_OWNER, SLOT_INTENT, Layout
from aimass.parameters.shared_memory import SharedMemoryServer

LENGTH = 1000


def make_server(optimizer="sgd", lr=0.1, weight_decay=(0.0, 0.0), atomic=True, kind=SharedMemoryServer, **layout):
    update = build_update(OptimizerConfig(name=optimizer))
    plan = Layout(
        num_parameters=LENGTH,
        groups=((0, 700), (700, LENGTH)),
        states=tuple(update.states),
        num_slots=2,
        **{"shard_size": 300, "chunk_size": 64, **layout},
    )
    return kind.create(plan, update, lambda step: lr, weight_decay=list(weight_decay), slot=0, atomic=atomic)


SERVERS = {
    "shared_memory": make_server,
    "shared_memory, one shard": lambda *a, **k: make_server(*a, shard_size=4096, **k),
    "handing": lambda *a, **k: make_server(*a, kind=HandingServer, **k),
}


@pytest.fixture(params=sorted(SERVERS))
def make(request):
    return SERVERS[request.param]


def test_pull_gives_what_was_put_in_and_the_clock_counts_pushes(make):
    server = make()
    server.p.copy_(torch.arange(LENGTH).float())
    out = torch.zeros(LENGTH)
    assert server.pull(out) == 0
    assert torch.equal(out, torch.arange(LENGTH).float())
    assert server.push(torch.ones(LENGTH), clock=0) is Pushed.APPLIED
    assert server.pull(out) == 1
    torch.testing.assert_close(out, torch.arange(LENGTH).float() - 0.1)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "adagrad", "rmsprop"])
@pytest.mark.parametrize("atomic", [True, False])
def test_pushes_equal_torch_optim_with_decay_in_one_group(make, name, atomic):
    torch.manual_seed(0)
    server = make(name, lr=0.05, weight_decay=(0.1, 0.0), atomic=atomic)
    start = torch.randn(LENGTH)
    server.p.copy_(start)
    first, second = (torch.nn.Parameter(part.clone()) for part in (start[:700], start[700:]))
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "adagrad": torch.optim.Adagrad}
    options = {"momentum": {"momentum": 0.9}}.get(name, {})
    kind = {**kinds, "momentum": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}[name]
    groups = [{"params": [first], "weight_decay": 0.1}, {"params": [second], "weight_decay": 0.0}]
    reference = kind(groups, lr=0.05, **options)
    for clock in range(20):
        gradient = torch.randn(LENGTH)
        first.grad, second.grad = gradient[:700].clone(), gradient[700:].clone()
        reference.step()
        server.push(gradient, clock)
    torch.testing.assert_close(server.p, torch.cat([first.data, second.data]), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(make, bad):
    server = make("adam")
    gradient = torch.ones(LENGTH)
    gradient[LENGTH - 1] = bad
    assert server.push(gradient, clock=0) is Pushed.NOT_FINITE
    assert server.clock == 0
    assert not server.p.any()
    assert not any(state.any() for state in server.states)


def test_a_gradient_so_large_that_its_square_overflows_is_still_applied(make):
    server = make(lr=1.0)
    assert server.push(torch.full((LENGTH,), 1e30), clock=0) is Pushed.APPLIED
    assert torch.equal(server.p, torch.full((LENGTH,), -1e30))


def test_a_push_commits_its_batch_and_one_under_an_old_epoch_does_nothing(make):
    server = make()
    cell = server.layout.cell(1)
    server.words[cell + LEASE_EPOCH], server.words[cell + LEASE_OWNER] = 5, 0
    assert server.push(torch.ones(LENGTH), 0, Ticket(1, 5, 3)) is Pushed.APPLIED
    assert server.words[cell + LEASE_COMMITTED] == 3
    before = server.p.clone()
    server.words[cell + LEASE_EPOCH] = 6
    assert server.push(torch.ones(LENGTH), 1, Ticket(1, 5, 4)) is Pushed.LEASE_LOST
    assert torch.equal(server.p, before)
    assert server.words[cell + LEASE_COMMITTED] == 3
    gradient = torch.full((LENGTH,), float("nan"))
    assert server.push(gradient, 1, Ticket(1, 5, 4)) is Pushed.LEASE_LOST
    assert server.push(gradient, 1, Ticket(1, 6, 4)) is Pushed.NOT_FINITE
    assert server.words[cell + LEASE_COMMITTED] == 4


def test_snapshot_and_restore_bring_back_p_states_clock_and_cells(make):
    server = make("adam")
    for clock in range(3):
        server.push(torch.randn(LENGTH), clock)
    server.words[server.layout.cell(2) + LEASE_NUMBER] = 11
    server.words[server.layout.cell(2) + LEASE_COMMITTED] = 7
    snapshot = server.snapshot()
    expected = make("adam")
    expected.restore(snapshot)
    gradient = torch.randn(LENGTH)
    server.push(gradient, 3)
    expected.push(gradient, 3)
    assert torch.equal(server.p, expected.p)
    assert expected.clock == 4
    assert [(cell[LEASE_NUMBER], cell[LEASE_COMMITTED]) for cell in expected.snapshot().open_cells] == [(11, 7)]


def test_states_that_a_snapshot_lacks_begin_anew(make):
    server = make("adagrad")
    start = [state.clone() for state in server.states]
    other = make("sgd").snapshot()
    server.push(torch.randn(LENGTH), 0)
    server.restore(other)
    assert [state.tolist() for state in server.states] == [state.tolist() for state in start]


def test_a_snapshot_may_overwrite_an_older_one_and_needs_no_memory_then(make):
    server = make("adam")
    server.push(torch.randn(LENGTH), 0)
    old = server.snapshot()
    vectors = [old.parameters, *old.states.values()]
    places = [vector.data_ptr() for vector in vectors]
    server.push(torch.randn(LENGTH), 1)
    new = server.snapshot(into=old)
    assert [vector.data_ptr() for vector in (new.parameters, *new.states.values())] == places
    assert torch.equal(new.parameters, server.p)
    assert all(torch.equal(found, state) for found, state in zip(new.states.values(), server.states, strict=True))
    assert new.clock == 2
    server.push(torch.randn(LENGTH), 2)
    assert not torch.equal(new.parameters, server.p)


def test_wait_sees_the_clock_and_gives_up_in_time(make):
    server = make()
    assert server.wait(0, timeout_s=0)
    assert not server.wait(1, timeout_s=0.01)
    server.push(torch.ones(LENGTH), 0)
    assert server.wait(1, timeout_s=0)


class Killed(Exception):
    """Stands for SIGKILL inside one process: what was written stays, and nothing after it is."""


@pytest.mark.parametrize("dies_at", range(25))
def test_recovery_after_every_chunk_boundary_equals_an_undisturbed_push(dies_at):
    torch.manual_seed(1)
    server, reference = make_server("adam"), make_server("adam")
    gradients = [torch.randn(LENGTH) for _ in range(3)]
    for clock, gradient in enumerate(gradients[:2]):
        server.push(gradient, clock)
        reference.push(gradient, clock)
    calls, apply = 0, server.update.apply

    def apply_half_and_die(p, gradient, states, *rest):
        nonlocal calls
        calls += 1
        if calls == dies_at:
            half = len(p) // 2
            apply(p[:half], gradient[:half], [state[:half] for state in states], *rest)
            raise Killed
        apply(p, gradient, states, *rest)

    server.update.apply = apply_half_and_die
    try:
        server.push(gradients[2], 2)
    except Killed:
        for shard in server.shards:
            server.locks.release(shard.index)  # as the kernel does for a dead process
        server.update.apply = apply
        assert server.words[server.layout.slot(0) + SLOT_INTENT]
        assert server.recover(0)
    reference.push(gradients[2], 2)
    assert torch.equal(server.p, reference.p)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(server.states, reference.states, strict=True))
    assert not any(server.words[shard.words + SHARD_OWNER] for shard in server.shards)
    assert server.clock == 3
    assert not server.recover(0)
