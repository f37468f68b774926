"""Blocks with owners: what is mixed in, what a push changes, and what the dead leave."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from aimass.models.manifest import Manifest
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.blocks import BlockServer, cut_into_blocks, describe_blocks
from aimass.parameters.layout import LEASE_EPOCH, LEASE_OWNER, SLOT_INTENT, Layout

LENGTH, CUTS = 100, (0, 30, 100)


class Died(Exception):
    """A worker that was killed: what it had written stays."""


class Mortal:
    """An update that kills at its n-th application."""

    def __init__(self, update, after):
        self._update, self.left, self.states, self.initial = update, after, update.states, update.initial

    def apply(self, p, gradient, *arguments):
        half = len(p) // 2
        self.left -= 1
        if self.left == 0:
            p[:half] = 1e9  # torn
            raise Died
        self._update.apply(p, gradient, *arguments)


def make_group(name="sgd", after=0, **options):
    config = OptimizerConfig(name=name)
    update = build_update(config)
    layout = Layout(num_parameters=LENGTH, groups=((0, LENGTH),), states=tuple(update.states), num_slots=2, cuts=CUTS, chunk_size=16)
    driver = BlockServer.create(layout, update, lambda step: 0.1, **options)
    driver.p.copy_(torch.linspace(-1, 1, LENGTH))
    updates = [Mortal(build_update(config), after), build_update(config)]
    return driver, [BlockServer(driver.memory, layout, updates[slot], lambda step: 0.1, slot=slot, **options) for slot in (0, 1)]


def gradient_at(w, step):
    """Of ½ ‖A w‖² with another A at each step: each block's depends on the others."""
    a = torch.randn(LENGTH, LENGTH, generator=torch.Generator().manual_seed(step)) / 10
    return a.T @ (a @ w)


@pytest.mark.parametrize("mix", [1.0, 0.25])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_any_order_of_workers_equals_a_replay_with_torch(mix, optimizer):
    driver, workers = make_group(optimizer, mix=mix)
    blocks = [slice(0, 30), slice(30, 100)]
    p = torch.linspace(-1, 1, LENGTH)
    owned = [nn.Parameter(p[block].clone()) for block in blocks]
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    optimizers = [kind([one], lr=0.1) for one in owned]
    seen, heard, versions = [None, None], [0, 0], [0, 0]
    outs = [torch.zeros(LENGTH), torch.zeros(LENGTH)]
    for step, who in enumerate([0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1]):
        other = 1 - who
        if seen[who] is None:
            seen[who] = torch.cat([one.data for one in owned])
        else:
            seen[who][blocks[who]] = owned[who].data
            if versions[other] != heard[who]:
                seen[who][blocks[other]] = (1 - mix) * seen[who][blocks[other]] + mix * owned[other].data
        heard[who] = versions[other]
        clock = workers[who].pull(outs[who])
        assert clock == step
        torch.testing.assert_close(outs[who], seen[who], atol=1e-6, rtol=1e-6)
        gradient = gradient_at(seen[who], step)
        owned[who].grad = gradient[blocks[who]].clone()
        optimizers[who].step()
        versions[who] += 1
        assert workers[who].push(gradient_at(outs[who], step), clock) is Pushed.APPLIED
    torch.testing.assert_close(driver.p, torch.cat([one.data for one in owned]), atol=1e-5, rtol=1e-5)
    assert driver.clock == 11


def test_only_what_has_changed_is_received_and_nobody_receives_its_own():
    _, workers = make_group()
    out = torch.zeros(LENGTH)
    workers[0].pull(out)
    assert workers[0].received == 70
    for _ in range(3):
        workers[0].push(torch.ones(LENGTH), workers[0].pull(out))
    assert workers[0].received == 70
    workers[1].push(torch.ones(LENGTH), 0)
    workers[0].pull(out)
    assert workers[0].received == 140


@pytest.mark.parametrize("after", [1, 2])  # of the two chunks of block 0
def test_what_the_dead_left_is_finished_by_a_reader_or_the_driver(after):
    driver, workers = make_group("adam", after)
    gradient = torch.linspace(0, 1, LENGTH)
    with pytest.raises(Died):
        workers[0].push(gradient, 0)
    assert driver.words[driver.layout.slot(0) + SLOT_INTENT]
    expected = nn.Parameter(torch.linspace(-1, 1, LENGTH)[:30].clone())
    expected.grad = gradient[:30].clone()
    torch.optim.Adam([expected], lr=0.1).step()
    out = torch.zeros(LENGTH)
    assert workers[1].pull(out) == 0  # it began before the push was finished
    torch.testing.assert_close(out[:30], expected.data, atol=1e-6, rtol=1e-6)
    assert driver.recover(0)
    assert not driver.recover(0)
    torch.testing.assert_close(driver.p[:30], expected.data, atol=1e-6, rtol=1e-6)
    assert torch.equal(driver.p[30:], torch.linspace(-1, 1, LENGTH)[30:])
    assert driver.clock == 1


def test_a_lost_lease_and_a_gradient_that_is_not_finite_change_nothing():
    driver, workers = make_group()
    before = driver.p.clone()
    cell = driver.layout.cell(0)
    driver.words[cell + LEASE_OWNER], driver.words[cell + LEASE_EPOCH] = 1, 2
    assert workers[0].push(torch.ones(LENGTH), 0, Ticket(0, 2, 1)) is Pushed.LEASE_LOST
    bad = torch.ones(LENGTH)
    bad[40] = float("nan")
    assert workers[1].push(bad, 0, Ticket(0, 2, 1)) is Pushed.NOT_FINITE
    assert torch.equal(driver.p, before)
    assert driver.clock == 0


def test_a_snapshot_waits_for_the_dead_and_brings_back_the_count_of_pushes():
    driver, workers = make_group(after=5)
    for _ in range(2):
        workers[0].push(torch.ones(LENGTH), 0)
    with pytest.raises(Died):
        workers[0].push(torch.ones(LENGTH), 0)
    snapshot = driver.snapshot(tend=lambda: driver.recover(0))
    assert snapshot.clock == 3
    workers[1].push(torch.ones(LENGTH), 3)
    driver.restore(snapshot)
    assert driver.clock == 3
    torch.testing.assert_close(driver.p, snapshot.parameters)


@pytest.mark.parametrize("num_blocks", [1, 2, 3, 7, 20])
def test_blocks_cover_p_once_and_are_about_the_same_size(num_blocks):
    manifest = Manifest.of(nn.Sequential(nn.Linear(64, 50), nn.LayerNorm(50), nn.Linear(50, 40), nn.Linear(40, 3)))
    cuts = cut_into_blocks(manifest, num_blocks)
    sizes = [stop - start for start, stop in pairwise(cuts)]
    assert (cuts[0], cuts[-1], len(sizes)) == (0, manifest.num_parameters, num_blocks)
    fair = manifest.num_parameters / num_blocks
    assert [size for size in sizes if not 0.5 * fair <= size <= 1.5 * fair] == []
    described = describe_blocks(manifest, cuts)
    assert sum(block["size"] for block in described) == manifest.num_parameters
    assert {block["owner"] for block in described} == set(range(num_blocks))


def test_as_many_blocks_as_parameters_are_one_parameter_each():
    manifest = Manifest.of(nn.Linear(4, 1))
    assert cut_into_blocks(manifest, 5) == (0, 1, 2, 3, 4, 5)
