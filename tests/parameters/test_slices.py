"""One p that is divided among workers: every part is of the same round whenever all are looked at, whoever was killed when."""

import pytest
import torch

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.layout import SLOT_INTENT, SLOT_SCALE, Layout
from aimass.parameters.replicas import DONE, NEXT_CLOCK, NEXT_DONE, PROGRESS
from aimass.parameters.slices import SliceServer

LENGTH = 1000
SPANS = (((0, 300), (700, 750)), ((300, 700),), ((750, LENGTH),))


def make_handles():
    """The driver's handle on a new block, and one for each worker; and what torch.optim has instead of them."""
    layout = Layout(
        num_parameters=LENGTH,
        groups=((0, 700), (700, LENGTH)),
        states=tuple(build_update(OptimizerConfig(name="adam")).states),
        num_slots=3,
        chunk_size=64,
        spans=SPANS,
    )
    options = {"weight_decay": [0.1, 0.0]}
    driver = SliceServer.create(layout, build_update(OptimizerConfig(name="adam")), lambda done: 0.05, **options)
    workers = [
        SliceServer(driver.memory, layout, build_update(OptimizerConfig(name="adam")), lambda done: 0.05, slot=slot, **options)
        for slot in range(3)
    ]
    driver.p.copy_(torch.randn(LENGTH, generator=torch.Generator().manual_seed(0)))
    first, second = (torch.nn.Parameter(part.clone()) for part in (driver.p[:700], driver.p[700:]))
    reference = torch.optim.Adam([{"params": [first], "weight_decay": 0.1}, {"params": [second], "weight_decay": 0.0}], lr=0.05)
    return driver, workers, (first, second, reference)


def step(reference, gradient, scale=1.0):
    first, second, optimizer = reference
    first.grad, second.grad = gradient[:700] * scale, gradient[700:] * scale
    optimizer.step()
    return torch.cat([first.data, second.data])


def test_parts_change_as_torch_optim_does_by_their_own_workers():
    driver, workers, reference = make_handles()
    for done in range(1, 6):
        gradient, scale = torch.randn(LENGTH), 1.0 / done
        driver.replica(0).gradient.copy_(gradient)
        expected = step(reference, gradient, scale)
        for worker in workers:
            assert driver.done == done - 1  # until the last one has it
            worker.decide(done, scale=scale)
        assert (driver.done, driver.clock) == (done, done)
        torch.testing.assert_close(driver.p, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("moment", ["before", "decided", "torn"])
def test_a_part_that_missed_what_another_decided_is_brought_up_to_it(moment):
    driver, (first, _, last), reference = make_handles()
    gradient = torch.randn(LENGTH)
    driver.replica(0).gradient.copy_(gradient)
    start = driver.p.clone()
    expected = step(reference, gradient, 0.5)
    first.decide(3, scale=0.5)
    torch.testing.assert_close(driver.p[300:700], start[300:700], atol=0, rtol=0)
    own = last.replica(2)
    if moment != "before":
        last.reals[own.at + SLOT_SCALE] = 0.5
        last.words[own.at + NEXT_CLOCK], last.words[own.at + NEXT_DONE], last.words[own.at + SLOT_INTENT] = 1, 3, 1
    if moment == "torn":
        for saved, row in own.chunks[0].saved:
            saved[...] = row
        last.words[own.at + PROGRESS] = 1
        own.chunks[0].p.fill_(7.0)
    assert driver.recover(2)
    with driver.paused() as moment_of_all:
        torch.testing.assert_close(moment_of_all.parameters, expected, atol=1e-6, rtol=1e-6)
        assert [driver.done_of(slot) for slot in range(3)] == [3, 3, 3]
        assert moment_of_all.clock == 1
    last.decide(3, scale=0.5)  # its own worker comes late, and finds it done
    torch.testing.assert_close(driver.p, expected, atol=1e-6, rtol=1e-6)
    assert not driver.recover(2)


def test_a_round_that_is_not_finite_is_counted_and_changes_nothing():
    driver, workers, _ = make_handles()
    before = driver.p.clone()
    driver.replica(0).gradient.fill_(float("nan"))
    for worker in workers[:2]:
        worker.decide(1, counts=False)
    out = torch.empty(LENGTH)
    assert driver.pull(out) == 0
    assert torch.equal(out, before)
    assert [driver.done_of(slot) for slot in range(3)] == [1, 1, 1]


def test_a_snapshot_comes_back_into_all_parts():
    driver, workers, _ = make_handles()
    driver.replica(0).gradient.copy_(torch.randn(LENGTH))
    for worker in workers:
        worker.decide(1)
    kept = driver.snapshot()
    for worker in workers:
        worker.decide(2)
    driver.restore(kept)
    driver.begin_at(1)
    assert torch.equal(driver.p, kept.parameters)
    assert all(torch.equal(state, kept.states[name]) for name, state in zip(driver.layout.states, driver.states, strict=True))
    assert [(driver.words[driver.layout.slot(slot) + DONE], worker.clock) for slot, worker in enumerate(workers)] == [(1, 1)] * 3


def test_the_block_has_one_gradient():
    driver, workers, _ = make_handles()
    assert len({worker.gradient.data_ptr() - worker.p.data_ptr() for worker in workers}) == 1
    assert {worker.gradient.data_ptr() for worker in workers} == {driver.replica(slot).gradient.data_ptr() for slot in range(3)}


def test_another_optimizer_begins_at_the_p_of_a_snapshot():
    driver, _, _ = make_handles()
    config = OptimizerConfig(name="ftrl", keep_start=True, l1=0.0)
    update = build_update(config)
    layout = Layout(num_parameters=LENGTH, groups=((0, LENGTH),), states=tuple(update.states), num_slots=3, chunk_size=64, spans=SPANS)
    other = SliceServer.create(layout, update, lambda done: 0.05, weight_decay=[0.0])
    kept = driver.snapshot()
    other.restore(kept)
    for slot in range(3):
        worker = SliceServer(other.memory, layout, build_update(config), lambda done: 0.05, slot=slot, weight_decay=[0.0])
        worker.gradient.zero_()
        worker.decide(1)
    torch.testing.assert_close(other.p, kept.parameters)
