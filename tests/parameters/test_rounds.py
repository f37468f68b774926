"""Rounds, against plain torch on the mean gradient: as they go, and whoever dies at whichever word."""

import random

import pytest
import torch

from aimass.core.memory import SharedMemory
from aimass.optim.config import ClipConfig, OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.layout import (
    INCARNATION,
    LEASE_LOCK,
    NEXT_LEASE,
    SHARD_CLOCK,
    SHARD_OWNER,
    SLOT_REFUSED,
    STOP,
    Layout,
)
from aimass.parameters.rounds import PART_OWNER, RoundServer
from aimass.training.leases import LeasePlan
from aimass.training.round_table import RoundTable

LENGTH = 200
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
}


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


def gradient_of(lease):
    return torch.randn(LENGTH, generator=torch.Generator().manual_seed(lease))


def weight_of(lease):
    return float(1 + lease % 5)


class Group:
    """Workers of one run, all played by this process, and the driver that buries those that die."""

    def __init__(self, optimizer="sgd", num_slots=2, num_leases=6, per_epoch=None, batches_per_lease=1, clip=None, atomic=True):
        self.optimizer, self.clip, self.atomic = OptimizerConfig(name=optimizer, lr=0.1), clip, atomic
        self.layout = Layout(
            num_parameters=LENGTH,
            groups=((0, 130), (130, LENGTH)),
            states=tuple(build_update(self.optimizer).states),
            num_slots=num_slots,
            shard_size=80,
            chunk_size=40,
        )
        rows = (per_epoch or num_leases) * batches_per_lease
        total = num_leases * batches_per_lease
        self.plan = LeasePlan(num_rows=rows, batch_size=1, batches_per_lease=batches_per_lease, seed=0, total_batches=total)
        self.driver = RoundServer.create(self.layout, build_update(self.optimizer), self.rate, clip=clip)
        self.leases = RoundTable(self.driver, self.plan, 30.0)
        self.leases.open(num_leases)
        self.driver.p.copy_(torch.linspace(-1, 1, LENGTH))
        self.gradient_of = gradient_of
        self.workers = [self.worker(slot) for slot in range(num_slots)]
        for slot in range(num_slots):
            self.driver.words[self.layout.slot(slot) + PART_OWNER] = slot  # all have come, and none has begun

    @staticmethod
    def rate(step):
        return 0.1

    def worker(self, slot):
        memory = self.driver.memory
        server = RoundServer(
            SharedMemory(memory.descriptor, memory.size_bytes),
            self.layout,
            build_update(self.optimizer),
            self.rate,
            slot=slot,
            clip=self.clip,
            atomic=self.atomic,
        )
        return server, RoundTable(server, self.plan, 30.0)

    def turn(self, slot, batches=None):
        """Let a worker do what there is for it. None where there was nothing."""
        server, table = self.workers[slot]
        lease = table.claim(slot)
        if lease is None:
            return None
        server.gradient.copy_(self.gradient_of(lease.number))
        ticket = Ticket(lease.cell, lease.epoch, lease.num_batches if batches is None else batches, weight_of(lease.number))
        return server.push(server.gradient, 0, ticket)

    def die(self, slot):
        """What the kernel does for a dead process; the driver has not seen it yet."""
        locks = self.workers[slot][0].locks
        for byte in [*range(self.layout.num_shards), LEASE_LOCK]:
            locks.release(byte)
        self.workers[slot] = self.worker(slot)

    def bury(self, slot):
        self.driver.recover(slot)
        return self.leases.release(slot)

    def run(self):
        """Everybody in turn, until all is done."""
        while not self.leases.is_done:
            for slot in range(len(self.workers)):
                self.turn(slot)

    def expected(self, num_slots=None, skip=()):
        """The same by a plain torch optimizer on each round's mean."""
        p = torch.nn.Parameter(torch.linspace(-1, 1, LENGTH))
        optimizer, plan = OPTIMIZERS[self.optimizer.name]([p]), self.plan
        first = 0
        while first < plan.num_leases:
            left = plan.leases_per_epoch - first % plan.leases_per_epoch
            parts = range(first, first + min(num_slots or len(self.workers), left, plan.num_leases - first))
            first = parts.stop
            kept = [lease for lease in parts if lease not in skip]
            if not kept:
                continue
            p.grad = sum(weight_of(lease) * gradient_of(lease) for lease in kept) / sum(weight_of(lease) for lease in kept)
            if self.clip is not None and self.clip.value is not None:
                torch.nn.utils.clip_grad_value_([p], self.clip.value)
            if self.clip is not None and self.clip.norm is not None:
                torch.nn.utils.clip_grad_norm_([p], self.clip.norm)
            optimizer.step()
        return p.detach()

    def check(self, **keywords):
        torch.testing.assert_close(self.driver.p, self.expected(**keywords), atol=1e-6, rtol=1e-6)
        assert self.leases.committed_batches == self.plan.total_batches
        assert len({self.driver.words[shard.words + SHARD_CLOCK] for shard in self.driver.shards}) == 1
        assert not any(self.driver.words[shard.words + SHARD_OWNER] for shard in self.driver.shards)


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


def test_a_part_whose_worker_died_is_done_by_another_and_its_replacement_waits_for_its_turn():
    group = Group("adam")
    group.turn(0)
    group.turn(1)
    lease = group.workers[1][1].claim(1)
    group.die(1)
    assert group.turn(0) is Pushed.APPLIED
    assert group.turn(0) is None  # nobody knows yet that worker 1 is dead
    assert [released.number for released in group.bury(1)] == [lease.number]
    assert group.turn(0) is Pushed.APPLIED
    assert group.leases.committed_batches == 4
    assert group.turn(1) is Pushed.APPLIED
    group.run()
    group.check()


def test_the_late_are_named_and_their_parts_are_given_away_only_once_they_are_dead():
    group = Group()
    server, table = group.workers[1]
    patient = RoundTable(group.driver, group.plan, 30.0)
    impatient = RoundTable(group.driver, group.plan, -1.0)
    group.turn(0)
    table._timeout_ns = -1
    assert table.claim(1) is not None
    assert patient.late() == []
    assert impatient.late() == [1]
    assert impatient.revoke_late() == []
    assert group.turn(0) is None
    table._timeout_ns = 30_000_000_000
    table.renew(1)
    assert impatient.late() == [], "it gets on"
    server.push(server.gradient, 0, Ticket(1, 0, 1))
    assert patient.late() == []


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


def test_nobody_begins_a_part_once_the_run_shall_stop():
    group = Group()
    group.driver.words[STOP] = 1
    assert group.turn(0) is None


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
        if not died:
            break
        points += 1
    assert points > 20


def test_a_death_inside_an_update_is_undone():
    for dies_at in range(1, 7):
        group = Group("adam")
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
