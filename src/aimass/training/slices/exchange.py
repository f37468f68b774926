"""One worker's rounds where p is divided: the gradient of its part, what all agree on, and the change of its part.

1. compute   all workers compute together; then the gradient of each one's part lies in the block
2. agree     one sum of a few numbers: the loss, its weight, ‖g‖², whether a part is not finite, and who wants to leave
3. commit    each changes its part by its gradient, clipped by the norm of all parts together
"""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import TYPE_CHECKING

import torch

from aimass.optim.clipping import scale_of
from aimass.parameters.layout import SLOT_MEMORY, SLOT_MEMORY_AT_START, STOP
from aimass.parameters.slices import SliceServer
from aimass.training.health.operations import COMPUTING, REDUCING
from aimass.training.leases.slices import SliceTable
from aimass.training.replicas.exchange import Exchange
from aimass.training.replicas.group import Group, GroupBroken
from aimass.training.slices.group import SliceGroup
from aimass.training.slices.learner import SlicedLearner
from aimass.training.slices.memory import begin_measuring, give_back_at_once, most_memory

if TYPE_CHECKING:
    from aimass.data.batch import Batch
    from aimass.parameters.replicas import ReplicaServer
    from aimass.training.leases.replicas import Part
    from aimass.training.workers.worker import Worker


@dataclass(slots=True)
class Round:
    """What a worker found in a round, and after `agree` what all did.

    Args:
        loss: the sum of its rows' losses, times their weights.
        weight: of those rows; 0 where another worker has them.
        num_rows: of the whole round.
        scale: what clips the gradient.
        counts: whether every part is finite.
    """

    loss: float = 0.0
    weight: float = 0.0
    num_rows: int = 0
    scale: float = 1.0
    counts: bool = True


class SliceExchange(Exchange):
    """What one worker does in each round.

    Args:
        worker: with a `SliceServer`, a `SliceTable` and a `SlicedLearner`.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        server, table, learner = worker.server, worker.leases, worker.learner
        assert isinstance(server, SliceServer), "the plane divides p"
        assert isinstance(table, SliceTable), "the plane divides p"
        assert isinstance(learner, SlicedLearner), "the plane divides p"
        self._table: SliceTable = table
        self._slices, self._learner, self._size = server, learner, server.layout.num_slots
        self._spans = [server.gradient[start:stop] for start, stop in learner.own.spans]
        self._is_built_for = 0
        give_back_at_once()
        self._words[self._own.at + SLOT_MEMORY_AT_START] = begin_measuring()

    def _join(self, server: ReplicaServer, timeout_s: float) -> Group:
        assert isinstance(server, SliceServer), "the plane divides p"
        return SliceGroup(server, timeout_s)

    # ------------------------------------------------------------------------------------------------- the three steps

    def work_on(self, part: Part) -> Round | None:
        """Compute this worker's share of a round; None where another worker was lost meanwhile, and the round comes again."""
        group, table = self._group, self._table
        assert isinstance(group, SliceGroup), "it was made here"
        self._worker.does(COMPUTING)
        table.begin(self._slot)
        try:
            if self._is_built_for != group.number:
                self._forget()
                self._build()
                self._is_built_for = group.number
            for span in self._spans:
                span.zero_()
            began_s = time.process_time()
            found = self._compute(part)
            self._worker.computed(time.process_time() - began_s)  # and not while it waited for others
        except RuntimeError:
            self._forget()
            if not group.is_broken:
                raise
            group.leave()
            return None
        table.end(self._slot)
        return found

    def agree(self, found: Round) -> bool:
        """Bring together what all found.

        Returns:
            whether it worked. Not where a worker was lost: then the round comes again.
        """
        squares = self._clip_values_and_square()
        is_bad = not isfinite(squares) and not all(bool(span.isfinite().all()) for span in self._spans)
        numbers = [found.loss, found.weight, 0.0 if is_bad else squares, float(is_bad), float(bool(self._words[STOP]))]
        told = torch.tensor(numbers, dtype=torch.float64)
        self._worker.does(REDUCING)
        try:
            self._group.sum(told)
        except GroupBroken:
            self._forget()
            return False
        found.loss, found.weight, squares, num_bad, leaves = told.tolist()
        found.counts, self._leaves = not num_bad, leaves > 0
        found.scale = scale_of(sqrt(squares), self._worker.clip_config) if found.counts else 1.0
        return True

    def commit(self, part: Part, found: Round) -> None:  # type: ignore[override]  # a round is another thing here
        """Change this worker's part, and report the round, which one worker after the other does."""
        server, worker, words = self._slices, self._worker, self._words
        before = server.done
        if before % self._size == self._slot:  # first, since the round may end the epoch that this loss belongs to
            loss, batches = found.loss / (found.weight or 1.0), part.done - before
            worker.report(loss=loss, rows=found.num_rows, batches=batches, weight=found.weight, done=part.done)
        server.decide(part.done, scale=found.scale, counts=found.counts)
        if self._table.leases_begun(part.done) > self._table.leases_begun(before):
            words[self._own.at + SLOT_MEMORY] = most_memory()
            self._tell()

    # ---------------------------------------------------------------------------------------------- what each kind does

    @abstractmethod
    def _build(self) -> None:
        """Make what computes, now that the group is formed."""

    @abstractmethod
    def _compute(self, part: Part) -> Round:
        """Bring the gradient of this worker's part into the block, whose part is zero; it is divided by the round's weight."""

    def _forget(self) -> None:
        """Let go of what holds on to a group that is no more."""
        self._is_built_for = 0

    def _tell(self) -> None:
        """Let the driver know that some batches are done, and see this worker's buffers."""
        self._worker.tell()

    def _clip_values_and_square(self) -> float:
        value = self._worker.clip_config.value
        if value is not None:
            for span in self._spans:
                span.clamp_(-value, value)
        return sum(torch.dot(span, span).item() for span in self._spans)

    def _batch(self, number: int) -> Batch:
        """A batch of the run, and the random numbers that belong to it here."""
        self._seed(number * self._size + self._slot)
        return self._worker.take(self._table.rows(number))
