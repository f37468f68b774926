"""Rounds played by one process: workers and driver in turn, and what plain torch makes of the same gradients."""

import torch

from aimass.core.memory import SharedMemory
from aimass.optim import AdagradDA, Ftrl
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.base import Ticket
from aimass.parameters.counts import LOSS, STEPS
from aimass.parameters.layout import LEASE_LOCK, SHARD_CLOCK, SHARD_OWNER, Layout
from aimass.parameters.rounds import RoundServer
from aimass.parameters.views.parts import PART_OWNER
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.rounds import RoundTable

LENGTH = 200
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "ftrl": lambda p: Ftrl(p, lr=0.1, l1=0.05, keep_start=True),
    "adagrad_da": lambda p: AdagradDA(p, lr=0.1, l1=0.05, keep_start=True),
}
OWN = {"ftrl": {"l1": 0.05, "keep_start": True}, "adagrad_da": {"l1": 0.05, "keep_start": True}}


def gradient_of(lease):
    return torch.randn(LENGTH, generator=torch.Generator().manual_seed(lease))


def weight_of(lease):
    return float(1 + lease % 5)


class Group:
    """Workers of one run, all played by this process, and the driver that buries those that die."""

    def __init__(self, optimizer="sgd", num_slots=2, num_leases=6, per_epoch=None, batches_per_lease=1, clip=None, atomic=True):
        self.optimizer, self.clip, self.atomic = OptimizerConfig(name=optimizer, lr=0.1, **OWN.get(optimizer, {})), clip, atomic
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
        server.report(slot, lease.num_batches, lease.num_batches, float(lease.number), 1.0)
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

    def counted(self):
        """Batches, and the sum of the losses of their leases."""
        words, reals, counts = self.driver.words, self.driver.reals, [self.driver.counted(slot) for slot in range(len(self.workers))]
        return sum(words[at + STEPS] for at in counts), sum(reals[at + LOSS] for at in counts)

    def check(self, **keywords):
        torch.testing.assert_close(self.driver.p, self.expected(**keywords), atol=1e-6, rtol=1e-6)
        assert self.leases.committed_batches == self.plan.total_batches
        assert len({self.driver.words[shard.words + SHARD_CLOCK] for shard in self.driver.shards}) == 1
        assert not any(self.driver.words[shard.words + SHARD_OWNER] for shard in self.driver.shards)
