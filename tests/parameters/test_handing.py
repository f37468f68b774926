"""Gradients that are handed over: whoever serves applies them all, and whoever dies serving leaves nothing half done."""

import pytest
import torch

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.handing import HandingServer
from aimass.parameters.layout import LEASE_COMMITTED, LEASE_EPOCH, LEASE_OWNER, SHARD_OWNER, SLOT_PULLED, SLOT_STALENESS, Layout

LENGTH, NUM_WORKERS = 200, 3


class Died(Exception):
    """A worker that was killed: what it had written stays."""


class Mortal:
    """An update that kills at its n-th application."""

    def __init__(self, after):
        self._update, self.left = build_update(OptimizerConfig(name="adam")), after
        self.states, self.initial = self._update.states, self._update.initial

    def apply(self, p, *arguments):
        self._update.apply(p, *arguments)
        self.left -= 1
        if self.left == 0:
            raise Died


def make_group(after=0):
    """A driver, and workers of whom the first may die while it serves."""
    update = build_update(OptimizerConfig(name="adam"))
    layout = Layout(
        num_parameters=LENGTH, groups=((0, LENGTH),), states=tuple(update.states), num_slots=NUM_WORKERS, shard_size=96, chunk_size=40
    )
    driver = HandingServer.create(layout, update, lambda step: 0.01)
    driver.p.copy_(torch.linspace(-1, 1, LENGTH))
    updates = [Mortal(after if slot == 0 else 0) for slot in range(NUM_WORKERS)]
    return driver, [HandingServer(driver.memory, layout, updates[slot], lambda step: 0.01, slot=slot) for slot in range(NUM_WORKERS)]


def gradient_of(slot):
    return torch.randn(LENGTH, generator=torch.Generator().manual_seed(slot))


def by_adam(slots):
    p = torch.nn.Parameter(torch.linspace(-1, 1, LENGTH))
    optimizer = torch.optim.Adam([p], lr=0.01)
    for slot in slots:
        p.grad = gradient_of(slot)
        optimizer.step()
    return p.data


def test_whoever_waits_first_applies_what_all_have_handed_over_its_own_first():
    driver, workers = make_group()
    for slot, worker in enumerate(workers):
        assert worker.hand_over(gradient_of(slot), clock=0) is None
    assert driver.clock == 0
    assert workers[1].await_parameters() is Pushed.APPLIED
    torch.testing.assert_close(driver.p, by_adam([1, 2, 0]), atol=1e-6, rtol=1e-6)
    before = driver.p.clone()
    assert [workers[slot].await_parameters() for slot in (0, 2)] == [Pushed.APPLIED] * 2
    assert torch.equal(driver.p, before)
    assert driver.clock == 3
    staleness = [[driver.words[driver.layout.slot(slot) + SLOT_STALENESS + n] for n in range(3)] for slot in range(3)]
    assert staleness == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_each_push_carries_the_clock_of_its_parameters():
    driver, workers = make_group()
    out = torch.zeros(LENGTH)
    for slot in (0, 1, 0):
        workers[slot].push(gradient_of(slot), workers[slot].pull(out))
    assert [driver.words[driver.layout.slot(slot) + SLOT_PULLED] for slot in (0, 1)] == [2, 1]


@pytest.mark.parametrize("after", range(1, 18))  # 5 to 6 chunks a push
def test_what_one_who_dies_serving_had_begun_is_finished_once(after):
    driver, workers = make_group(after)
    for slot, worker in enumerate(workers):
        worker.hand_over(gradient_of(slot), clock=0)
    with pytest.raises(Died):
        workers[0].await_parameters()
    num_begun = driver.words[driver.layout.shard_words(0)] + bool(driver.words[driver.layout.shard_words(0) + SHARD_OWNER])
    assert driver.is_pushing(0)
    assert driver.recover(0)
    assert not any(driver.is_pushing(slot) for slot in range(NUM_WORKERS))
    for worker in workers[1:]:
        assert worker.await_parameters() is Pushed.APPLIED
    torch.testing.assert_close(driver.p, by_adam([0, 1, 2]), atol=1e-6, rtol=1e-6)
    assert driver.clock == 3 >= num_begun


def test_another_worker_finishes_it_as_well_where_the_driver_has_not_come_yet():
    driver, workers = make_group(after=8)
    for slot, worker in enumerate(workers):
        worker.hand_over(gradient_of(slot), clock=0)
    with pytest.raises(Died):
        workers[0].await_parameters()
    assert workers[2].await_parameters() is Pushed.APPLIED
    assert driver.recover(0)
    assert workers[1].await_parameters() is Pushed.APPLIED
    torch.testing.assert_close(driver.p, by_adam([0, 1, 2]), atol=1e-6, rtol=1e-6)


def test_what_a_dead_worker_had_only_handed_over_is_taken_back():
    driver, workers = make_group()
    workers[1].hand_over(gradient_of(1), clock=0)
    assert not driver.recover(1)
    workers[0].push(gradient_of(0), clock=0)
    torch.testing.assert_close(driver.p, by_adam([0]), atol=1e-6, rtol=1e-6)


def test_a_lease_that_went_to_another_is_told_to_the_one_who_waits():
    driver, workers = make_group()
    cell = driver.layout.cell(0)
    driver.words[cell + LEASE_OWNER], driver.words[cell + LEASE_EPOCH] = 1, 4
    assert workers[0].push(gradient_of(0), 0, Ticket(0, 4, 1)) is Pushed.LEASE_LOST
    assert workers[1].push(gradient_of(1), 0, Ticket(0, 3, 1)) is Pushed.LEASE_LOST
    assert driver.clock == driver.words[cell + LEASE_COMMITTED] == 0
    assert workers[1].push(gradient_of(1), 0, Ticket(0, 4, 1)) is Pushed.APPLIED
    assert driver.words[cell + LEASE_COMMITTED] == 1


def test_a_snapshot_waits_for_what_a_dead_one_left_and_a_restore_leaves_nothing_of_it():
    driver, workers = make_group(after=8)
    at_start = driver.snapshot()
    for slot, worker in enumerate(workers):
        worker.hand_over(gradient_of(slot), clock=0)
    with pytest.raises(Died):
        workers[0].await_parameters()
    snapshot = driver.snapshot(tend=lambda: driver.recover(0))
    assert snapshot.clock == 2
    torch.testing.assert_close(snapshot.parameters, by_adam([0, 1]), atol=1e-6, rtol=1e-6)
    driver.restore(at_start)
    workers[2].push(gradient_of(2), clock=0)
    torch.testing.assert_close(driver.p, by_adam([2]), atol=1e-6, rtol=1e-6)
