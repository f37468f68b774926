"""One worker's rounds under all-reduce: its part's gradient, the sum over all workers, and what they agree on.

What is added up is one vector: the gradient times its share of the round's rows, those rows, and who wants to leave. So all
workers take the same decisions at the same round: whether to apply it, by what to divide, and when to leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

from aimass.models.devices import seed_draws
from aimass.parameters.handle import is_finite
from aimass.parameters.layout import SLOT_REFUSED, STOP
from aimass.parameters.replicas import LEAVES, WEIGHT, ReplicaServer
from aimass.training.health.operations import REDUCING, WAITING
from aimass.training.leases.replicas import Part, ReplicaTable
from aimass.training.replicas.group import Group, GroupBroken

if TYPE_CHECKING:
    from aimass.data.batch import Batch
    from aimass.training.workers.worker import Worker

_LONGEST_S = 4e7  # over a year, and nanoseconds that torch can count
_SPARE_S = 10.0  # how much longer than a late worker's time the others wait for its death
_LEAST_WEIGHT = 1e-30


@dataclass(slots=True)
class Found:
    """What a worker found in its part.

    Args:
        loss: the sum of its batches' mean losses times their weights.
        weight: of its rows.
        share: how much its gradient counts beside the others'.
        num_rows: how many rows they are.
        is_refused: whether the gradient is not finite.
    """

    loss: float = 0.0
    weight: float = 0.0
    share: float = 0.0
    num_rows: int = 0
    is_refused: bool = False


class Exchange:
    """What one worker does in each round.

    Args:
        worker: with a `ReplicaServer` and a `ReplicaTable`.
    """

    def __init__(self, worker: Worker) -> None:
        server, table = worker.server, worker.leases
        assert isinstance(server, ReplicaServer), "the plane has replicas"
        assert isinstance(table, ReplicaTable), "the plane has replicas"
        worker.clips_batches = False
        self._worker, self._server, self._table, self._slot = worker, server, table, worker.slot
        self._own, self._words = server.replica(worker.slot), server.words
        self._group = self._join(server, min(2 * table.timeout_s * table.accumulate, _LONGEST_S) + _SPARE_S)
        self._is_alone = self._group.size == 1
        self._seeds = server.atomic  # in a process of its own, which another may replace
        self._total = torch.empty_like(self._own.gradient) if table.accumulate > 1 else None
        self._leaves = False
        self._sent, self._messages = _ring(self._group.size, 4 * self._own.wire.numel())

    def _join(self, server: ReplicaServer, timeout_s: float) -> Group:
        return Group(server, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._group.close()

    def parts(self) -> Iterator[Part]:
        """This worker's part of each round, perhaps without a batch, until the run ends. A part comes again where its round broke."""
        table, worker, words = self._table, self._worker, self._words
        worker.does(WAITING)
        while self._group.form():
            stops = words[STOP]  # before the limit is read, which the driver does not move any more once it has set this
            part = table.part(self._slot)
            if stops and (part is None or self._is_alone):
                return
            if part is not None:
                yield part
                if worker.after_step is not None:
                    worker.after_step()
                if self._leaves:
                    return
            elif table.is_done:
                return
            else:
                worker.does_still(WAITING)
                worker.when_idle()

    def compute(self, part: Part) -> Found:
        """Bring the part's gradient, times its share of the round's rows, into this worker's slot."""
        table, worker, gradient, found = self._table, self._worker, self._own.gradient, Found()
        for number in part.batches:
            table.begin(self._slot)
            self._seed(number)
            batch = worker.take(table.rows(number))
            loss, _ = worker.gradient(batch)
            weight = weight_of(batch)
            if self._total is not None:
                if number == part.batches[0]:
                    torch.mul(gradient, weight, out=self._total)
                else:
                    self._total.add_(gradient, alpha=weight)
            found.loss += loss * weight
            found.weight += weight
            found.num_rows += len(batch["rows"])
        found.share = found.weight
        if not part.batches:
            gradient.zero_()
        elif self._total is not None:
            torch.mul(self._total, 1.0 / part.num_rows, out=gradient)
        elif self._is_alone:
            found.share = part.num_rows  # it is the mean already
        else:
            gradient.mul_(found.weight / part.num_rows)
        table.end(self._slot)
        return found

    def _seed(self, number: int) -> None:
        """Let the random numbers of a piece of work be the same whoever computes it, and however often."""
        if self._seeds:
            seed_draws(self._worker.learner.device, self._table.plan.seed, number)

    def sum(self, part: Part, found: Found) -> bool:
        """Report the part, and add up what all workers found. A part that is not finite counts for nothing, and its rows neither.

        Returns:
            whether it worked. Not where a worker was lost: then the part comes again.
        """
        own = self._own
        if part.batches:  # first, since whoever has the sum may end the round without this worker
            loss, batches = found.loss / found.weight, len(part.batches)
            self._worker.report(loss=loss, rows=found.num_rows, batches=batches, weight=found.weight, done=part.done)
        found.is_refused = found.num_rows > 0 and not is_finite(own.gradient)
        if found.is_refused:
            own.gradient.zero_()
        own.extras[WEIGHT], own.extras[LEAVES] = 0.0 if found.is_refused else found.share, self._words[STOP]
        self._worker.does(REDUCING)
        self._worker.moved(sent=self._sent, received=self._sent, messages=self._messages)
        try:
            self._group.sum(own.wire)
        except GroupBroken:
            return False
        return True

    def commit(self, part: Part, found: Found) -> None:
        """Apply the sum as a mean to this worker's replica, and count what it did. Where every part was refused, nothing changes."""
        own, server, worker = self._own, self._server, self._worker
        weight, leaves = own.extras.tolist()
        self._leaves = leaves > 0
        before = server.done
        if weight:
            if weight != part.num_rows:
                own.gradient.mul_(part.num_rows / weight)
            worker.clip(own.gradient)
            server.apply(part.done)
        else:
            server.skip(part.done)
        if found.is_refused:
            self._words[own.at + SLOT_REFUSED] += 1
        elif part.batches:
            server.count(len(part.batches))
        if self._table.leases_begun(part.done) > self._table.leases_begun(before):
            worker.tell()


def _ring(size: int, num_bytes: int) -> tuple[int, int]:
    """What each of so many workers sends, and in how many messages one after another, to add up a vector in a ring.

        2 (m − 1) / m · n bytes in 2 (m − 1) messages

    >>> _ring(4, 1000), _ring(1, 1000)
    ((1500, 6), (0, 0))

    Source: Patarasu and Yuan, JPDC 2009.
    """
    messages = 2 * (size - 1)
    return messages * num_bytes // size, messages


def weight_of(batch: Batch) -> float:
    """How much a batch's mean loss counts beside others'."""
    weights = batch["weights"]
    return float(len(batch["rows"])) if weights is None else max(weights.sum().item(), _LEAST_WEIGHT)
