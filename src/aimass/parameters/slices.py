"""One p and its states, divided among the workers: each changes its own part alone, and all of them change in the same rounds.

    p = p_1 ∥ p_2 ∥ … ∥ p_n        worker i has the stretches p_i, with their states and their gradient

A round is decided once for all parts:

1. The gradient of every part lies in the block before anybody decides. Then the workers agree, by one sum, on whether the round
   counts and on the factor that clips it. Whoever has the sum knows that all gradients are there.
2. Each writes the decision into its own slot, then the intent, and changes its part as a replica is changed: chunk by chunk, each
   saved before.
3. A part that missed the decision is behind by one round and no more, since the next cannot be decided without it. Whoever finds it,
   its own worker or the driver, takes the decision over from another slot and applies the gradient that lies there.

So the parts are of one moment again whenever all are looked at under their locks, whoever was killed when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Unpack

from aimass.parameters.base import Snapshot
from aimass.parameters.layout import SLOT_INTENT, SLOT_REFUSED, SLOT_SCALE, SLOT_STALENESS
from aimass.parameters.replicas import CLOCK, DEADLINE_NS, DONE, NEXT_CLOCK, NEXT_DONE, PROGRESS, READY, ReplicaServer
from aimass.parameters.views.replica import Chunk, Replica

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.core.memory import SharedMemory
    from aimass.parameters.handle import Basis
    from aimass.parameters.layout import Layout
    from aimass.parameters.replicas import ReplicaOptions


class Part(Replica):
    """One worker's part of p and of the states.

    Attributes:
        p, states, gradient: the whole vectors; the worker touches its stretches alone.
        spans: which these are.
    """

    def __init__(self, memory: SharedMemory, layout: Layout, slot: int, weight_decay: Sequence[float], reals: memoryview[float]) -> None:
        super().__init__(memory, layout, slot, weight_decay)
        self.spans, self._reals = layout.spans[slot], reals

    def gradient_of(self, chunk: Chunk) -> Tensor:
        scale = self._reals[self.at + SLOT_SCALE]
        return chunk.gradient if scale == 1.0 else chunk.gradient * scale

    def _cut(self) -> Iterator[tuple[int, int, int]]:
        return self._layout.own_chunks(self._slot)


class SliceServer(ReplicaServer):
    """One process's handle on a block whose p is divided among workers.

    The arguments are those of `ReplicaServer`, with a layout that has `spans`.
    """

    def __init__(self, *basis: *Basis, **options: Unpack[ReplicaOptions]) -> None:
        super().__init__(*basis, **options)
        self._held: set[int] = set()

    def _set_up(self) -> None:
        super()._set_up()
        for at in self._slots:
            self._stand(at, 0, 0)

    def replica(self, slot: int) -> Replica:
        """The part of a slot."""
        if slot not in self._replicas:
            self._replicas[slot] = Part(self.memory, self.layout, slot, self._decay, self.reals)
        return self._replicas[slot]

    @property
    def best(self) -> int:
        """The slot whose part is furthest behind: a round is done once it is for all, and counted by then."""
        return min(range(self.layout.num_slots), key=self.done_of)

    def begin_at(self, done: int) -> None:
        """Say of all parts how many batches they hold. Nobody may be training."""
        for at in self._slots:
            self._stand(at, done, self.words[at + CLOCK])

    def _stand(self, at: int, done: int, clock: int) -> None:
        words = self.words
        words[at + SLOT_INTENT] = 0
        words[at + DONE] = words[at + NEXT_DONE] = done
        words[at + CLOCK] = words[at + NEXT_CLOCK] = clock
        self.reals[at + SLOT_SCALE] = 1.0

    # ------------------------------------------------------------------------------------------------ changing

    def decide(self, done: int, *, scale: float = 1.0, counts: bool = True) -> None:
        """Change this worker's part by the gradient that lies in the block, as all have agreed.

        Args:
            done: the batches done with this round.
            scale: what the gradient is multiplied with.
            counts: whether it changes anything. Not where a part of it is not finite.
        """
        assert self.slot is not None, "a server without a slot has no part"
        own = self.replica(self.slot)
        self.locks.acquire(own.lock)
        if self.words[own.at + DONE] < done:  # the driver may have seen what another decided, and done it
            self._decide(own, done, self.words[own.at + CLOCK] + counts, scale)
        self.locks.release(own.lock)

    def catch_up(self, slot: int) -> bool:
        """Bring a part to the round that was decided last, wherever its worker was interrupted. Any process may.

        Returns:
            whether something was missing.
        """
        own = self.replica(slot)
        with nullcontext() if slot in self._held else self.locks.held(own.lock):
            was_inside = self._finish(own)
            newest = max(self._slots, key=self._decided)
            missed = self._decided(newest) > self.words[own.at + DONE]
            if missed:
                words = self.words
                self._decide(own, words[newest + NEXT_DONE], words[newest + NEXT_CLOCK], self.reals[newest + SLOT_SCALE])
            return was_inside or missed

    def _decided(self, at: int) -> int:
        """The batches that a slot knows to be done, also where its part is not changed yet."""
        return self.words[at + NEXT_DONE] if self.words[at + SLOT_INTENT] else self.words[at + DONE]

    def _decide(self, own: Replica, done: int, clock: int, scale: float) -> None:
        words, at = self.words, own.at
        if at == self._slots[0]:  # with the first part, whoever changes it, so that a round that counts is counted whoever is lost
            if clock > words[at + CLOCK]:
                words[at + SLOT_STALENESS] += done - words[at + DONE]  # all were computed at the newest parameters
            else:
                words[at + SLOT_REFUSED] += 1
        self.reals[at + SLOT_SCALE] = scale
        words[at + NEXT_CLOCK] = clock
        words[at + PROGRESS] = 0
        words[at + NEXT_DONE] = done
        words[at + SLOT_INTENT] = 1
        self._finish(own)

    # ------------------------------------------------------------------------------------------------ recovery

    def recover(self, slot: int) -> bool:
        at = self._slots[slot]
        self.words[at + READY] = 0
        self.words[at + DEADLINE_NS] = 0
        return self.catch_up(slot)

    # ------------------------------------------------------------------------------------------- reading and restoring

    @contextmanager
    def _held_all(self) -> Iterator[None]:
        """Hold every part back, with all of them in the same round."""
        with ExitStack() as stack:
            try:
                for slot in range(self.layout.num_slots):
                    stack.enter_context(self.locks.held(self.replica(slot).lock))
                    self._held.add(slot)  # who dies meanwhile is recovered under the lock that is held already
                for slot in range(self.layout.num_slots):
                    self.catch_up(slot)
                yield
            finally:
                self._held.clear()

    def pull(self, out: Tensor) -> int:
        if out.data_ptr() == self.p.data_ptr():
            return self.clock
        with self._held_all():
            out.copy_(self.p)
            return self.clock

    @contextmanager
    def paused(self, tend: Callable[[], None] | None = None) -> Iterator[Snapshot]:
        """Hold all parts back, each in the same round as the others."""
        with self._held_all():
            cells, next_lease = self.cells_of(self.done)
            states = dict(zip(self.layout.states, self.states, strict=True))
            yield Snapshot(parameters=self.p, states=states, clock=self.clock, cells=cells, next_lease=next_lease)

    def restore(self, snapshot: Snapshot) -> None:
        """Put a snapshot into the block. The table of leases tells the batches done from its cells, in `release_all`."""
        self._restore_vectors(snapshot, self.p, self.states)
        for at in self._slots:
            self._stand(at, snapshot.next_lease, snapshot.clock)
        self._put_cells(snapshot)
