"""One worker: it takes leases, hands batches to its strategy, and counts what was done. It runs in a process of its own, or with
`workers=0` in the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from time import monotonic_ns
from typing import TYPE_CHECKING

import torch

from aimass.models.devices import seed_draws
from aimass.models.learner import Learner
from aimass.optim.clipping import clip_
from aimass.optim.config import ClipConfig, OptimizerConfig
from aimass.optim.local import LocalOptimizer
from aimass.parameters.base import Pushed, Ticket
from aimass.parameters.counts import ROWS
from aimass.parameters.layout import RATE_FACTOR, SLOT_RECEIVED, SLOT_SENT, SLOT_SPENT_NS, STOP
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.training.health.operations import COMPUTING, LEASING, PULLING, PUSHING
from aimass.training.leases.rows import TrainingRows, slice_batch
from aimass.training.leases.table import Lease, LeaseTable
from aimass.training.workers.words import BUFFERED, LEAVE, OPERATION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from aimass.data.batch import Batch
    from aimass.parameters.pace import Pace


class Worker:
    """What a strategy works with.

    Attributes:
        learner: the module; its `parameters` are this worker's copy of p.
        server: where p lives.
        slot: which worker this is, from 0.
        weight: how much the batch in hand counts beside others: its rows, or the sum of their weights.
        clips_batches: whether `gradient` clips each batch's gradient.
        seed: decides the random numbers of each lease, whoever has it; None leaves them to the worker.
        binds: whether the module's gradients go wherever the server wants the lease's.
        pace: what holds it back where it runs too far ahead of the others; None where nothing does.
        vector_bytes: the size of p, and of whatever is as long.
    """

    def __init__(
        self,
        *,
        learner: Learner,
        server: SharedMemoryServer,
        leases: LeaseTable,
        rows: TrainingRows,
        clip: ClipConfig,
        slot: int,
        optimizer: OptimizerConfig | None = None,
    ) -> None:
        self.learner, self.server, self.slot = learner, server, slot
        self._leases, self._rows, self._clip = leases, rows, clip
        self._words, self._at = server.words, server.layout.slot(slot)
        self._operation_at, self._sent_at, self._received_at = (self._at + word for word in (OPERATION, SLOT_SENT, SLOT_RECEIVED))
        self._spent_at = self._at + SLOT_SPENT_NS
        self.vector_bytes = 4 * server.layout.num_parameters
        self._reals = server.reals
        self._optimizer = optimizer or OptimizerConfig()
        self._num_batches = self._num_rows = self._step = 0
        self.weight = self._weights = 0.0
        self.seed: int | None = None
        self.binds = False
        self._clips = clip.norm is not None or clip.value is not None
        self.clips_batches = True
        self.after_step: Callable[[], None] | None = None
        self.when_idle: Callable[[], None] = leases.pause
        self.when_leased: Callable[[], None] | None = None
        self.pace: Pace | None = None

    @property
    def clip_config(self) -> ClipConfig:
        """How gradients are clipped."""
        return self._clip

    @property
    def leases(self) -> LeaseTable:
        """Who trains on what."""
        return self._leases

    def begin(self, batch: Batch, step: int) -> None:
        """Take a batch in hand that did not come from `batches` or `parts`.

        Args:
            batch: whose rows `weight` is of, until the next.
            step: the batches of the run before it, which decide its rate.
        """
        self.weight = float(len(batch["rows"])) if batch["weights"] is None else batch["weights"].sum().item()
        self._step = step

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """Training rows as one batch.

        Args:
            rows: which, as `epoch_order` gives them. Shape (num_rows,).
        """
        return self._rows.take(torch.from_numpy(rows))

    def batches(self) -> Iterator[Batch]:
        """This worker's batches, lease after lease, until the run ends. A batch counts once its gradient was pushed."""
        for lease in self._claimed():
            yield from self._batches_of(lease) if self.pace is None else self._paced(lease, self._batches_of(lease))

    def parts(self, most: int | None = None, time_s: float | None = None) -> Iterator[Iterator[Batch]]:
        """The same batches in groups, each of which is to be pushed as one. A lease's end ends a group.

        Args:
            most: batches in a group.
            time_s: after which a group takes no further batch.
        """
        for lease in self._claimed():
            batches = self._batches_of(lease)
            for first in batches if self.pace is None else self._paced(lease, batches):
                yield _group(first, batches, most, time_s)

    def _paced(self, lease: Lease, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches with which an exchange begins, each once it may. What they are asked for in between ends one."""
        assert self.pace is not None, "something holds this worker back"
        for batch in batches:
            if not self.pace.begin(lambda: self._keeps(lease)):
                return
            yield batch
            self.pace.end()

    def _claimed(self) -> Iterator[Lease]:
        while not self.must_leave:
            self.does_still(LEASING)
            lease = self._leases.claim(self.slot)
            if lease is not None:
                self._prepare(lease)
                yield lease
                if self.after_step is not None:
                    self.after_step()
                self.publish_buffers()
                if self.when_leased is not None:
                    self._leases.finished(self.when_leased)
            elif self._leases.is_done:
                return
            else:
                if self.pace is not None:
                    self.pace.rest()
                self.when_idle()
        self._leases.leave(self.slot)

    @property
    def must_leave(self) -> bool:
        """Whether the run stops, or goes on without this worker: what it has begun it ends, and takes nothing new."""
        return bool(self._words[STOP] or self._words[self._at + LEAVE])

    def pull(self) -> int:
        """Fetch the server's p into the learner's, and return the clock that it had."""
        clock = self.server.pull(self.learner.parameters)
        self._words[self._received_at] += self.vector_bytes  # what `moved` does, in half the time
        return clock

    def push(self, change: Tensor, clock: int) -> Pushed:
        """Send a change that was found at the p of `clock`, shape (num_parameters,), to the server."""
        self._words[self._sent_at] += self.vector_bytes
        return self.server.push(change, clock)

    def moved(self, *, sent: int = 0, received: int = 0, messages: int = 1) -> None:
        """Count what the algorithm sends over a network, whatever carries it here: `pull` and `push` count what they move.

        Call it before what was sent is used, and after what was received was taken: that is when a slow link delays them.

        Args:
            sent: bytes that leave this worker.
            received: bytes that come to it.
            messages: how many follow one another, each of which waits for the one before it.
        """
        if sent:
            self._words[self._sent_at] += sent
        if received:
            self._words[self._received_at] += received

    def computed(self, seconds: float) -> None:
        """Hear how long this worker computed, where it did so otherwise than by `gradient`: whoever shall be slow is so here."""

    def gradient(self, batch: Batch) -> tuple[float, Tensor]:
        """The loss of a batch, and its gradient, clipped as the run is set."""
        self.does(COMPUTING)
        loss, gradient = self.learner.gradient(batch)
        if self._clips and self.clips_batches:
            clip_(gradient, self._clip)
        self.does(PUSHING)
        return loss, gradient

    def does(self, operation: int) -> None:
        """Note what this worker does from now on, one of `health.operations`, so that a stall has a name, and how long it did what it
        did. Twice a step, 0.3 µs each."""
        words, at, now = self._words, self._operation_at, monotonic_ns()
        words[self._spent_at + words[at]] += now - words[at + 1]
        words[at] = operation
        words[at + 1] = now

    def does_still(self, operation: int) -> None:
        """Note what this worker does, since when it began with it."""
        if self._words[self._operation_at] != operation:
            self.does(operation)

    def clip(self, gradient: Tensor) -> None:
        """Clip, as the run is set, a gradient that was put together from several batches' (`clips_batches` is False then)."""
        if self._clips:
            clip_(gradient, self._clip)

    @property
    def rate(self) -> float:
        """The learning rate of the batch in hand."""
        return self.server.rate(self._step) * self._reals[RATE_FACTOR]

    def own_optimizer(self) -> LocalOptimizer:
        """An optimizer as the run is set, whose states nobody else sees."""
        config, groups = self._optimizer, self.learner.manifest.groups
        return LocalOptimizer(config, [(group.start, group.stop, config.weight_decay_of(group.name), group.rate) for group in groups])

    def report(
        self, *, loss: float, rows: int | None = None, batches: int | None = None, weight: float | None = None, done: int = 0
    ) -> None:
        """Say what the next push stands for, and its mean loss: before it, since it may end the epoch that this loss belongs to. It counts
        with that push, and not at all where that is refused.

        Args:
            loss: over the rows.
            rows: how many; by default those of all batches since the last report.
            batches: how many; by default all since then.
            weight: of the rows; by default that of all batches since then.
            done: with which the report holds, where that goes by the batches of the run that are done.
        """
        batches = self._num_batches if batches is None else batches
        rows = self._num_rows if rows is None else rows
        self.server.report(self.slot, batches, rows, loss, self._weights if weight is None else weight, done)
        self._forget()

    def tell(self) -> None:
        """Let the driver know that some batches are done, and see this worker's buffers."""
        self.publish_buffers()
        if self.when_leased is not None:
            self.when_leased()

    def _forget(self) -> None:
        self._num_batches = self._num_rows = 0
        self._weights = 0.0

    def _prepare(self, lease: Lease) -> None:
        """See to it that a lease's result does not depend on whose it is."""
        self._forget()
        if self.binds and self.learner.gradient_vector is not self.server.gradient:
            self.learner.bind(self.learner.parameters, self.server.gradient, copy_module=False)
        if self.seed is not None:
            seed_draws(self.learner.device, self.seed, lease.number)

    def _batches_of(self, lease: Lease) -> Iterator[Batch]:
        plan, leases, server = self._leases.plan, self._leases, self.server
        everything = self._rows.take(torch.from_numpy(leases.rows_left(lease)))
        num_rows, before, first = len(everything["rows"]), plan.first_batch(lease.number), lease.committed
        size = num_rows if leases.whole_batch else plan.batch_size
        self.does(PULLING)
        for number in range(first, lease.num_batches):
            start = (number - first) * size
            stop = min(start + size, num_rows)
            batch = slice_batch(everything, start, stop)
            self.weight = float(stop - start) if batch["weights"] is None else batch["weights"].sum().item()
            self._num_rows += stop - start
            self._num_batches += 1
            self._weights += self.weight
            self._step = before + number
            server.ticket = Ticket(lease.cell, lease.epoch, number + 1, self._weights)
            yield batch
            if self.after_step is not None and not self._num_batches:  # what was taken was reported, and so pushed
                self.after_step()
            if self.must_leave or not leases.holds(lease):
                return
            leases.renew(lease.cell)

    def _keeps(self, lease: Lease) -> bool:
        """Whether a lease whose worker is held back is still its own, and wanted. Its deadline is put off."""
        if self.must_leave or not self._leases.holds(lease):
            return False
        self._leases.renew(lease.cell)
        return True

    def publish_buffers(self) -> None:
        """Let the driver see this worker's buffers."""
        if self.server.layout.num_buffers:
            self.server.buffers(self.slot).copy_(self.learner.float_buffers())
            self._words[self._at + BUFFERED] = self._words[self.server.counted(self.slot) + ROWS]


class LocalWorker(Worker):
    """The worker in the caller's own process, with `workers=0`: it is all there is, and nothing is sent."""

    def pull(self) -> int:
        return self.server.pull(self.learner.parameters)

    def push(self, change: Tensor, clock: int) -> Pushed:
        return self.server.push(change, clock)

    def moved(self, *, sent: int = 0, received: int = 0, messages: int = 1) -> None:
        """Count nothing."""


def _group(first: Batch, others: Iterator[Batch], most: int | None, time_s: float | None) -> Iterator[Batch]:
    end = None if time_s is None else time.monotonic() + time_s
    yield first
    taken = 1
    while (most is None or taken < most) and (end is None or time.monotonic() < end):
        batch = next(others, None)
        if batch is None:
            return
        yield batch
        taken += 1
