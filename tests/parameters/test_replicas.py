"""Replicas of p and the states: changed whole or not at all, and the one that is furthest is the run's state."""

import pytest
import torch

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.layout import SLOT_INTENT, SLOT_REFUSED, Layout
from aimass.parameters.replicas import DONE, EMPTY, NUM_EXTRAS, ReplicaServer

LENGTH = 1000
KINDS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.05),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.05),
}


def make_handles(optimizer="adam", num_replicas=3, rate=lambda done: 0.05):
    """The driver's handle on a new block, and one for each worker."""
    update = build_update(OptimizerConfig(name=optimizer))
    layout = Layout(
        num_parameters=LENGTH,
        groups=((0, 700), (700, LENGTH)),
        states=tuple(update.states),
        num_slots=num_replicas,
        num_replicas=num_replicas,
        num_extras=NUM_EXTRAS,
        shard_size=300,
        chunk_size=64,
    )
    options = {"weight_decay": [0.1, 0.0]}
    driver = ReplicaServer.create(layout, update, rate, **options)
    workers = [
        ReplicaServer(driver.memory, layout, build_update(OptimizerConfig(name=optimizer)), rate, slot=slot, **options)
        for slot in range(num_replicas)
    ]
    return driver, workers


def ticket(done):
    return Ticket(0, 0, done)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_replica_changes_as_torch_optim_does_and_the_others_stay(name):
    torch.manual_seed(0)
    _, (worker, other, _) = make_handles(name)
    start = torch.randn(LENGTH)
    worker.p.copy_(start)
    first, second = (torch.nn.Parameter(part.clone()) for part in (start[:700], start[700:]))
    reference = KINDS[name]([{"params": [first], "weight_decay": 0.1}, {"params": [second], "weight_decay": 0.0}])
    for done in range(1, 11):
        gradient = torch.randn(LENGTH)
        first.grad, second.grad = gradient[:700].clone(), gradient[700:].clone()
        reference.step()
        assert worker.push(gradient, worker.clock, ticket(3 * done)) is Pushed.APPLIED
    torch.testing.assert_close(worker.p, torch.cat([first.data, second.data]), atol=1e-6, rtol=1e-6)
    assert (worker.clock, worker.done) == (10, 30)
    assert (other.clock, other.done) == (0, EMPTY)
    assert not other.p.any()


def test_the_rate_is_that_of_the_batches_done_before():
    seen = []
    _, (worker, *_) = make_handles(rate=lambda done: seen.append(done) or 0.1)
    for done in (4, 8, 11):
        worker.push(torch.ones(LENGTH), 0, ticket(done))
    assert seen == [0, 4, 8]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing_but_counts_as_done(bad):
    driver, (worker, *_) = make_handles()
    worker.push(torch.ones(LENGTH), 0, ticket(2))
    before = worker.p.clone()
    assert worker.push(torch.full((LENGTH,), bad), 1, ticket(4)) is Pushed.NOT_FINITE
    assert torch.equal(worker.p, before)
    assert (worker.clock, worker.done) == (1, 4)
    assert driver.words[driver.layout.slot(0) + SLOT_REFUSED] == 1


class Killed(Exception):
    """Stands for SIGKILL inside one process: what was written stays, and nothing after it is."""


def test_an_update_that_was_cut_off_anywhere_is_finished_by_the_driver():
    torch.manual_seed(1)
    gradients = [torch.randn(LENGTH) for _ in range(3)]
    for dies_at in range(1, 60):
        driver, (worker, *_) = make_handles()
        _, (reference, *_) = make_handles()
        for done, gradient in enumerate(gradients, 1):
            reference.push(gradient, 0, ticket(done))
        worker.push(gradients[0], 0, ticket(1))
        worker.push(gradients[1], 0, ticket(2))
        if not die_in_update(worker, gradients[2], dies_at):
            assert dies_at > 18  # there are 18 chunks
            break
        assert driver.words[driver.layout.slot(0) + SLOT_INTENT]
        assert driver.is_pushing(0)
        assert driver.recover(0)
        assert torch.equal(worker.p, reference.p)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(worker.states, reference.states, strict=True))
        assert (driver.clock, driver.done) == (3, 3)
        assert not driver.recover(0)
    else:
        pytest.fail("it was always cut off")


def die_in_update(worker, gradient, at):
    """Be cut off in the middle of the n-th chunk; False where there are fewer."""
    calls, apply = 0, worker.update.apply

    def apply_half_and_die(p, gradient, states, *rest):
        nonlocal calls
        calls += 1
        if calls == at:
            half = len(p) // 2
            apply(p[:half], gradient[:half], [state[:half] for state in states], *rest)
            raise Killed
        apply(p, gradient, states, *rest)

    worker.update.apply = apply_half_and_die
    try:
        worker.push(gradient, 0, ticket(3))
    except Killed:
        worker.locks.release(worker.replica(0).lock)  # as the kernel does for a dead process
        return True
    return False


def test_the_driver_reads_the_replica_that_is_furthest_also_where_its_worker_died_inside():
    driver, workers = make_handles("sgd", rate=lambda done: 1.0)
    for slot, done in ((0, 2), (1, 4), (2, 3)):
        workers[slot].push(torch.full((LENGTH,), float(slot + 1)), 0, ticket(done))
    out = torch.zeros(LENGTH)
    assert driver.pull(out) == 1
    assert torch.equal(out, workers[1].p)
    assert (driver.best, driver.done) == (1, 4)

    worker, words = workers[1], driver.words
    own = worker.replica(1)
    own.gradient.fill_(5.0)
    before = own.p.clone()
    worker._change_replica = lambda *_: None
    worker.apply(6)
    assert words[own.at + SLOT_INTENT]
    snapshot = driver.snapshot()
    assert torch.equal(snapshot.parameters, own.p)
    torch.testing.assert_close(own.p[700:], before[700:] - 5.0)
    assert snapshot.clock == 2
    assert driver.done == 6


def test_a_replica_that_is_being_replaced_by_another_is_not_read():
    driver, workers = make_handles("sgd")
    for worker in workers[:2]:
        worker.push(torch.full((LENGTH,), 1.0), 0, ticket(2))
    acquire = driver.locks.acquire

    def begin_to_adopt(byte):
        """What the first worker does while the driver waits for its lock: it has seen that the second is further."""
        driver.locks.acquire = acquire
        workers[1].push(torch.full((LENGTH,), 2.0), 1, ticket(4))
        driver.words[driver.layout.slot(0) + DONE] = EMPTY
        workers[0].p.fill_(7.0)
        acquire(byte)

    driver.locks.acquire = begin_to_adopt
    snapshot = driver.snapshot()
    assert torch.equal(snapshot.parameters, workers[1].p)
    assert snapshot.clock == 2


def test_restore_fills_the_first_replica_and_empties_the_others_whatever_was_under_way():
    torch.manual_seed(2)
    driver, workers = make_handles()
    gradients = [torch.randn(LENGTH) for _ in range(3)]
    for worker in workers:
        worker.push(gradients[0], 0, ticket(2))
    kept = driver.snapshot()
    for worker in workers:
        worker.push(gradients[1], 0, ticket(4))
    assert die_in_update(workers[0], gradients[2], 4)
    driver.restore(kept)
    assert [driver.done_of(slot) for slot in range(3)] == [kept.next_lease, EMPTY, EMPTY]
    assert not any(driver.is_pushing(slot) for slot in range(3))
    assert driver.best == 0
    assert driver.clock == kept.clock == 1
    again = driver.snapshot()
    assert torch.equal(again.parameters, kept.parameters)
    assert all(torch.equal(again.states[name], state) for name, state in kept.states.items())


def test_what_is_added_up_is_the_gradient_and_what_travels_with_it():
    _, workers = make_handles()
    replica = workers[1].replica(1)
    replica.gradient.fill_(1.0)
    replica.extras.fill_(2.0)
    assert len(replica.wire) == LENGTH + NUM_EXTRAS
    assert replica.wire.sum().item() == LENGTH + 2 * NUM_EXTRAS
    assert not workers[2].replica(2).wire.any()
