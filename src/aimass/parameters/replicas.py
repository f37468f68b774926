"""A replica of p and of the optimizer's states for every worker, side by side in the shared block.

All workers apply the same gradient to their own replica, so that replicas that have met the same rounds are equal in every
bit, and each of them is the state of the run. One replica changes so, under its lock:

1. The summed gradient lies in the worker's slot. The clock and the batches done that the replica will have are written, then
   the intent: from here on the round counts for this replica, and whoever finds it interrupted finishes it.
2. Chunk by chunk: save the chunk, mark it (an odd progress), change it, mark it done (an even progress).
3. The clock and the batches done are written, and the intent is cleared.

A worker that is killed inside leaves a chunk that `recover` puts back and applies again, from the gradient in its slot: no
replica is ever torn, also where all workers are killed at once. One that missed a round is behind, and takes over the state of
the replica that has most batches done, as a new group of workers is formed. A replica with -1 batches done is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Unpack

import numpy as np

from aimass.parameters.base import Pushed, Snapshot, Ticket
from aimass.parameters.handle import ServerOptions, is_finite
from aimass.parameters.layout import (
    CELL_WORDS,
    NEXT_LEASE,
    NOBODY,
    RATE_FACTOR,
    SLOT_COUNTED,
    SLOT_INTENT,
    SLOT_PART,
    SLOT_REFUSED,
    SLOT_REPORT_OF,
    SLOT_REPORTED,
    SLOT_STALENESS,
)
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.parameters.views.replica import Replica

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.parameters.handle import Basis

CLOCK, DONE, NEXT_CLOCK, NEXT_DONE, PROGRESS, READY, BREAKS, DEADLINE_NS = range(SLOT_PART, SLOT_PART + 8)
"""A replica's words in its worker's slot: updates applied; batches of the run that they hold; both as they will be after the change
under way; its progress; for which group its worker is ready; how many groups broke under it; when its part of a round is late."""

EMPTY = -1
WEIGHT, LEAVES = range(2)
NUM_EXTRAS = 2
"""What travels behind each gradient: the weight of its rows, and whether its worker wants to leave."""


class ReplicaOptions(ServerOptions, total=False):
    """What a server of replicas can be made with beside its basis; `ReplicaServer` says what its own is."""

    backend: str


class ReplicaServer(SharedMemoryServer):
    """One process's handle on the block of replicas.

    A worker's p and gradient are those of its own replica. The driver, which has none, reads whichever has most batches done.

    Args:
        basis, options: as for `Handle`, but that the rate counts batches done
            before, and that without `atomic` (which one process alone may do without) nothing is saved before it is changed.
        backend: what carries gradients between workers: `gloo` or `nccl`.
    """

    pushes_together = True

    def __init__(self, *basis: *Basis, backend: str = "gloo", **options: Unpack[ServerOptions]) -> None:
        super().__init__(*basis, **options)
        self.backend = backend
        self._decay = list(options.get("weight_decay") or [0.0] * len(self.layout.groups))
        self._replicas: dict[int, Replica] = {}
        own = self.replica(self.slot or 0)
        self.p, self.states = own.p, own.states
        self.cells_of: Callable[[int], tuple[list[list[int]], int]] = lambda done: ([], done)
        """Gives the lease cells and the next lease at so many batches done; the table of leases knows."""

    def _set_up(self) -> None:
        super()._set_up()
        for at in self._slots[1:]:
            self.words[at + DONE] = EMPTY

    def replica(self, slot: int) -> Replica:
        """The replica of a slot."""
        if slot not in self._replicas:
            self._replicas[slot] = Replica(self.memory, self.layout, slot, self._decay)
        return self._replicas[slot]

    def note(self, slot: int) -> memoryview:
        """What a worker tells the others of itself, in bytes."""
        start = self.layout.note_offset(slot)
        return self.memory.view[start : start + self.layout.note_bytes]

    # ------------------------------------------------------------------------------------------------ reading

    @property
    def best(self) -> int:
        """The slot whose replica has most batches done."""
        return max(range(self.layout.num_slots), key=self.done_of)

    def done_of(self, slot: int) -> int:
        """The batches that a slot's replica holds; -1 where it is empty."""
        return self.words[self._slots[slot] + DONE]

    def present(self) -> list[int]:
        """The batches that each replica holds whose worker is in a group."""
        return [self.words[at + DONE] for at in self._slots if self.words[at + READY]]

    @property
    def done(self) -> int:
        """Batches of the run that are committed: those in this worker's replica, or for the driver in the best one."""
        return self.done_of(self.best if self.slot is None else self.slot)

    @property
    def clock(self) -> int:
        return self.words[self._slots[self.best if self.slot is None else self.slot] + CLOCK]

    @property
    def gradient(self) -> Tensor:
        assert self.slot is not None, "a server without a slot has no gradient"
        return self.replica(self.slot).gradient

    def pull(self, out: Tensor) -> int:
        if out.data_ptr() == self.p.data_ptr():
            return self.clock
        with self._held_best() as replica:
            out.copy_(replica.p)
            return self.words[replica.at + CLOCK]

    @contextmanager
    def _held_best(self) -> Iterator[Replica]:
        """The replica with most batches done, whole, held against its worker."""
        while True:
            slot = self.best
            replica = self.replica(slot)
            with self.locks.held(replica.lock):
                if self.done_of(slot) == EMPTY:  # its worker had the lock, and began to take over another's
                    continue
                self._finish(replica)
                yield replica
                return

    # ------------------------------------------------------------------------------------------------ changing

    def push(self, gradient: Tensor, clock: int, ticket: Ticket | None = None) -> Pushed:
        """Apply the gradient of a whole round to this worker's replica.

        Args:
            gradient: summed over the workers and divided by the rows.
            clock: the replica's.
            ticket: its `committed` is the batches done with this round.
        """
        assert self.slot is not None, "a server without a slot cannot push"
        own = self.replica(self.slot)
        if gradient.data_ptr() != own.gradient.data_ptr():
            np.copyto(own.gradient.numpy(), gradient.numpy())
        done = self.done + 1 if ticket is None else ticket.committed
        if not is_finite(own.gradient):
            self.words[own.at + SLOT_REFUSED] += 1
            self.skip(done)
            return Pushed.NOT_FINITE
        self.apply(done)
        return Pushed.APPLIED

    def apply(self, done: int) -> None:
        """Change this worker's replica by the gradient in its slot, which is finite.

        Args:
            done: the batches done with it.
        """
        assert self.slot is not None, "a server without a slot cannot apply"
        words, own = self.words, self.replica(self.slot)
        at = own.at
        self.locks.acquire(own.lock)
        words[at + NEXT_CLOCK] = words[at + CLOCK] + 1
        words[at + NEXT_DONE] = done
        words[at + PROGRESS] = 0
        words[at + SLOT_INTENT] = 1
        self._change_replica(own, 0)
        self.locks.release(own.lock)

    def skip(self, done: int) -> None:
        """Count a round as done that changes nothing, because its gradient was not finite."""
        assert self.slot is not None, "a server without a slot has no replica"
        self.words[self._slots[self.slot] + DONE] = done

    def count(self, num_batches: int) -> None:
        """Count this worker's batches of a round that was applied. They were computed at the newest parameters."""
        assert self.slot is not None, "a server without a slot has no counters"
        self.words[self._slots[self.slot] + SLOT_STALENESS] += num_batches

    def _change_replica(self, own: Replica, first_chunk: int) -> None:
        words, at, update, atomic = self.words, own.at, self.update, self.atomic
        step = words[at + NEXT_CLOCK]
        rate = self.rate(max(words[at + DONE], 0)) * self.reals[RATE_FACTOR]
        progress = 2 * first_chunk
        for chunk in own.chunks[first_chunk:] if first_chunk else own.chunks:
            if atomic:
                for saved, row in chunk.saved:
                    np.copyto(saved, row)
            words[at + PROGRESS] = progress + 1
            update.apply(chunk.p, own.gradient_of(chunk), chunk.states, step, rate * chunk.rate, chunk.weight_decay)
            progress += 2
            words[at + PROGRESS] = progress
        words[at + CLOCK] = step
        words[at + DONE] = words[at + NEXT_DONE]
        words[at + SLOT_INTENT] = 0

    def _side(self, slot: int) -> int:
        """A report holds once the round is done that it is of."""
        words, at = self.words, self._slots[slot]
        while True:
            done, side = words[at + SLOT_REPORT_OF], words[at + SLOT_REPORTED]
            holds = done and self.done_of(self.best) >= done
            if words[at + SLOT_REPORT_OF] == done:  # its worker has not begun another report meanwhile
                return side if holds else words[at + SLOT_COUNTED]

    # ------------------------------------------------------------------------------------------------ recovery

    def recover(self, slot: int) -> bool:
        words, replica = self.words, self.replica(slot)
        words[replica.at + READY] = 0
        words[replica.at + DEADLINE_NS] = 0
        with self.locks.held(replica.lock):
            return self._finish(replica)

    def _finish(self, replica: Replica) -> bool:
        """Finish, under its lock, the change of a replica whose worker died inside it."""
        words, at = self.words, replica.at
        if not words[at + SLOT_INTENT]:
            return False
        chunk, is_torn = divmod(words[at + PROGRESS], 2)
        if is_torn:
            for saved, row in replica.chunks[chunk].saved:
                np.copyto(row, saved)
        if words[at + CLOCK] != words[at + NEXT_CLOCK]:
            self._change_replica(replica, chunk)
        words[at + DONE] = words[at + NEXT_DONE]
        words[at + SLOT_INTENT] = 0
        return True

    def progress(self, slot: int) -> tuple[int, ...]:
        at = self._slots[slot]
        return self.words[at + DONE], self.words[at + PROGRESS]

    # ------------------------------------------------------------------------------------------- snapshot and restore

    @contextmanager
    def paused(self, tend: Callable[[], None] | None = None) -> Iterator[Snapshot]:
        """Hold one replica back; its worker keeps the others waiting at their next round."""
        with self._held_best() as replica:
            cells, next_lease = self.cells_of(self.words[replica.at + DONE])
            yield Snapshot(
                parameters=replica.p,
                states=dict(zip(self.layout.states, replica.states, strict=True)),
                clock=self.words[replica.at + CLOCK],
                cells=cells,
                next_lease=next_lease,
            )

    def restore(self, snapshot: Snapshot) -> None:
        """Put a snapshot into the first replica, and empty the others: they take over its state as their workers form a group.

        The table of leases tells the batches done from its cells, in `release_all`.
        """
        words = self.words
        for at in self._slots:
            words[at + SLOT_INTENT] = 0
            words[at + DONE] = EMPTY
        first = self.replica(0)
        self._restore_vectors(snapshot, first.p, first.states)
        words[first.at + CLOCK] = snapshot.clock
        words[first.at + DONE] = snapshot.next_lease
        self._put_cells(snapshot)

    def _put_cells(self, snapshot: Snapshot) -> None:
        words, layout, open_cells = self.words, self.layout, snapshot.open_cells
        assert len(open_cells) <= layout.num_cells, "the layout was made for this snapshot"
        for index in range(layout.num_cells):
            cell = open_cells[index] if index < len(open_cells) else [NOBODY, 0, NOBODY, *[0] * (CELL_WORDS - 3)]
            for word, value in enumerate(cell):
                words[layout.cell(index) + word] = value
        words[NEXT_LEASE] = snapshot.next_lease
