"""Rounds, against plain torch on the mean gradient: as they go, and whoever dies at whichever word."""

import random

import pytest
import torch
from parameters.playing import LENGTH, OPTIMIZERS, Group, gradient_of

from aimass.optim.config import ClipConfig
from aimass.parameters.base import Pushed
from aimass.parameters.layout import INCARNATION, NEXT_LEASE, SLOT_REFUSED


class Killed(Exception):
    """Stands for SIGKILL inside one process: what was written stays, and nothing after it is."""


class MortalWords:
    """The block's words, of a process that dies before its n-th write."""

    def __init__(self, words, left):
        self.words, self.left = words, left

    def __getitem__(self, at):
        return self.words[at]

    def __setitem__(self, at, value):
        self.left -= 1
        if self.left == 0:
            raise Killed
        self.words[at] = value


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("num_slots", [1, 2, 3])
def test_a_round_is_one_step_on_the_weighted_mean(optimizer, num_slots):
    group = Group(optimizer, num_slots)
    group.run()
    group.check()


def test_the_last_parts_of_an_epoch_may_be_missing():
    group = Group("adam", num_slots=3, num_leases=14, per_epoch=5)  # rounds of 3, 2, 3, 2, 3, 1
    group.run()
    group.check()
    assert group.driver.clock == 6


@pytest.mark.parametrize("clip", [ClipConfig(norm=0.5), ClipConfig(value=0.3), ClipConfig(norm=3.0, value=0.5)])
def test_the_mean_is_clipped_and_not_its_parts(clip):
    group = Group("momentum", clip=clip)
    group.run()
    group.check()


def test_nothing_moves_before_the_last_part_is_there():
    group = Group()
    before = group.driver.p.clone()
    assert group.turn(0) is Pushed.APPLIED
    assert group.turn(0) is None
    assert torch.equal(group.driver.p, before)
    assert group.leases.committed_batches == 0
    group.turn(1)
    assert not torch.equal(group.driver.p, before)
    assert group.leases.committed_batches == 2


def test_a_part_that_is_not_finite_counts_nothing_and_a_round_of_such_makes_no_step():
    group = Group("adam")
    group.gradient_of = lambda lease: torch.full((LENGTH,), float("nan")) if lease in (1, 2, 3) else gradient_of(lease)
    group.run()
    group.check(skip=(1, 2, 3))
    assert group.driver.clock == 2
    assert [group.driver.words[group.layout.slot(slot) + SLOT_REFUSED] for slot in (0, 1)] == [1, 2]


def test_a_part_that_was_cut_short_is_left_out():
    group = Group(num_leases=4, batches_per_lease=3)
    assert group.turn(0, batches=2) is Pushed.LEASE_LOST
    assert group.turn(0) is Pushed.APPLIED
    group.run()
    group.check()


def test_a_restore_leaves_no_trace_of_what_was_under_way():
    group = Group("adam")
    group.turn(0)
    group.turn(1)
    snapshot = group.driver.snapshot()
    group.turn(0)
    group.driver.restore(snapshot)
    group.driver.words[INCARNATION] += 1
    group.leases.release_all()
    assert group.turn(1) is Pushed.APPLIED
    assert group.leases.committed_batches == 2, "the part of before does not count"
    group.run()
    group.check()


def test_a_snapshot_between_rounds_has_no_part_of_the_next():
    group = Group("adam")
    group.turn(0)
    group.turn(1)
    expected = group.driver.p.clone()
    group.turn(1)
    snapshot = group.driver.snapshot()
    assert torch.equal(snapshot.parameters, expected)
    assert (snapshot.clock, snapshot.next_lease) == (1, 2)


def test_a_snapshot_brings_a_round_to_its_end_that_a_dead_worker_had_left_decided():
    group = Group("adam")
    group.turn(1)
    server, _ = group.workers[0]
    server.complete = lambda **keywords: False  # it dies the moment it has filled its part
    group.turn(0)
    snapshot = group.driver.snapshot(tend=lambda: group.bury(0))
    assert (snapshot.clock, snapshot.next_lease) == (1, 2)
    group.die(0)
    group.run()
    group.check()


def play(group, slot, dies_at):
    """A worker's turns until it dies before its n-th write, or comes to have nothing to do."""
    server, table = group.workers[slot]
    server.words = table.words = MortalWords(server.words, dies_at)
    try:
        while group.turn(slot) is not None:
            pass
        server.words = table.words = server.words.words
    except Killed:
        group.die(slot)
        return True
    return False


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_death_before_any_word_changes_nothing(optimizer):
    """Worker 1 has filled its part; worker 0 fills its own, applies the round, commits it, begins the next, and dies on the way."""
    points = 0
    for dies_at in range(1, 1000):
        group = Group(optimizer)
        group.turn(1)
        died = play(group, 0, dies_at)
        if dies_at % 2:
            group.turn(1)  # before the driver has seen it
        group.bury(0)
        group.run()
        group.check()
        assert group.counted() == (group.plan.total_batches, sum(range(group.plan.num_leases)))
        if not died:
            break
        points += 1
    assert points > 20


@pytest.mark.parametrize("optimizer", ["adam", "ftrl", "adagrad_da"])
def test_a_death_inside_an_update_is_undone(optimizer):
    for dies_at in range(1, 7):
        group = Group(optimizer)
        group.turn(1)
        server, _ = group.workers[0]
        calls, apply = 0, server.update.apply

        def apply_half_and_die(p, gradient, states, *rest, dies_at=dies_at, apply=apply):
            nonlocal calls
            calls += 1
            if calls == dies_at:
                half = len(p) // 2
                apply(p[:half], gradient[:half], [state[:half] for state in states], *rest)
                raise Killed
            apply(p, gradient, states, *rest)

        server.update.apply = apply_half_and_die
        with pytest.raises(Killed):
            group.turn(0)
        group.die(0)
        group.bury(0)
        group.run()
        group.check()


@pytest.mark.parametrize("seed", range(30))
def test_any_deaths_of_any_workers_change_nothing(seed):
    """Also those of whoever repairs what another left, and of workers whose deaths the driver sees late."""
    chance = random.Random(seed)
    group = Group(chance.choice(["momentum", "adam"]), num_slots=3, num_leases=60, per_epoch=7)
    unburied, deaths = set(), 0
    for _ in range(2000):
        if group.leases.is_done and not unburied:
            break
        slot = chance.randrange(3)
        if slot in unburied:
            if chance.random() < 0.5:
                group.bury(slot)
                unburied.discard(slot)
        elif deaths < 100 and chance.random() < 0.7:
            if play(group, slot, chance.randint(1, 30)):
                deaths += 1
                unburied.add(slot)
        else:
            group.turn(slot)
    assert deaths >= 20
    group.check()
    assert group.driver.words[NEXT_LEASE] == 60
