"""What is counted of a worker's work: what it has committed, at whichever word it died."""

import math

import pytest
import torch
from parameters.test_rounds import Killed, MortalWords

from aimass.core.memory import SharedMemory
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.blocks import BlockServer
from aimass.parameters.counts import LOSS, LOSS_ROWS, LOSS_WEIGHT, ROWS, STEPS
from aimass.parameters.handing import HandingServer
from aimass.parameters.layout import LEASE_COMMITTED, LEASE_EPOCH, LEASE_LOCK, LEASE_OWNER, Layout
from aimass.parameters.shared_memory import SharedMemoryServer

LENGTH = 60
LAYOUT = Layout(num_parameters=LENGTH, groups=((0, LENGTH),), shard_size=40, chunk_size=20)
ONE_BLOCK = Layout(num_parameters=LENGTH, groups=((0, LENGTH),), cuts=(0, LENGTH), chunk_size=20)
KINDS = {"own": (SharedMemoryServer, LAYOUT), "handing": (HandingServer, LAYOUT), "block": (BlockServer, ONE_BLOCK)}


class Played:
    """A worker in slot 0 that holds a lease, and the driver, in one process: every lock is free that a dead one held."""

    def __init__(self, kind="own"):
        self.kind, self.layout = KINDS[kind]
        self.driver = self.kind.create(self.layout, build_update(OptimizerConfig(name="sgd")), lambda step: 0.1)
        self.cell = self.layout.cell(0)
        self.driver.words[self.cell + LEASE_OWNER], self.driver.words[self.cell + LEASE_EPOCH] = 0, 1
        self.come()

    def come(self):
        memory = self.driver.memory
        memory = SharedMemory(memory.descriptor, memory.size_bytes)
        self.worker = self.kind(memory, self.layout, build_update(OptimizerConfig(name="sgd")), lambda step: 0.1, slot=0)

    def push(self, number, left=10**9, fill=1.0, epoch=1, loss=None):
        """Report batch `number`, counted from 1, of 10 rows, and push it; die before the write number `left`."""
        server = self.worker
        server.words = MortalWords(server.words, left)
        server.report(0, 1, 10, float(number) if loss is None else loss, 20.0)
        pushed = server.push(torch.full((LENGTH,), fill), server.clock, Ticket(0, epoch, number))
        server.words = server.words.words
        return pushed

    def bury(self):
        for byte in (*range(self.layout.num_shards), LEASE_LOCK):
            self.worker.locks.release(byte)
        self.driver.recover(0)
        self.come()

    @property
    def committed(self):
        return self.driver.words[self.cell + LEASE_COMMITTED]

    def counted(self):
        words, reals, at = self.driver.words, self.driver.reals, self.driver.counted(0)
        return words[at + STEPS], words[at + ROWS], words[at + LOSS_ROWS], reals[at + LOSS], reals[at + LOSS_WEIGHT]

    def expected(self, committed):
        return committed, 10 * committed, 10 * committed, 20.0 * sum(range(1, committed + 1)), 20.0 * committed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", [1.0, math.nan], ids=["applied", "not finite"])
def test_what_is_counted_is_what_was_committed_at_whichever_word_the_worker_dies(kind, fill):
    seen = set()
    for left in range(1, 200):
        played = Played(kind)
        played.push(1)
        try:
            played.push(2, left, fill)
        except Killed:
            played.bury()
            seen.add(played.committed)
            assert played.counted() == played.expected(played.committed)
            for number in range(played.committed + 1, 4):
                assert played.push(number) is Pushed.APPLIED
            assert played.counted() == played.expected(3)
        else:
            break
    assert seen == {1, 2}
    assert 10 < left < 199  # it has died before every write


def test_a_report_counts_with_its_push_and_not_where_that_is_refused():
    played = Played()
    played.push(1)
    played.worker.report(0, 1, 10, 5.0, 20.0)
    assert played.counted() == played.expected(1)
    assert played.push(2, epoch=7) is Pushed.LEASE_LOST
    assert played.push(2, epoch=7, fill=math.nan) is Pushed.LEASE_LOST
    assert played.counted() == played.expected(1)
    played.push(2)
    assert played.counted() == played.expected(2)
    assert played.driver.steps_before(0) == 1


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_left_out_with_its_rows(loss):
    played = Played()
    played.push(1)
    played.push(2, loss=loss)
    assert played.counted() == (2, 20, *played.expected(1)[2:])
