"""Averages in shared memory: a round is decided once enough workers' changes are there, and who comes too late goes into the next.

p stands still while workers train, each on a lease of its own, and write their changes to slots of their own.

1. *Fill.* The lease, how far the change goes in it, and its weight are written, then under the table's lock the one word that counts:
   the slot is filled for the present round. Killed before it, nothing has happened, and the lease goes to another. After it the change is
   in the round whether or not its worker lives, so that the lease is not given to anybody else.
2. *Decide.* One word, under the table's lock: the present round is decided. From here on it can only go forwards, with the slots that were
   filled before; a change that comes later is for the next round. When to decide is up to the table (`training/leases/averages.py`).
3. *Apply.* As in `parameters/rounds.py`: the mean of the filled slots, in their order, shard by shard.
4. *Commit.* Under the table's lock each filled slot's lease learns how far it has come, and becomes nobody's; then the number of the round
   goes up, which is the word that counts. Killed before it, whoever looks next writes the same again: nobody takes a lease meanwhile.

Where the states of workers' own optimizers are averaged too, each shows its own beside its change, and their mean is made with that of the
changes, chunk by chunk, in vectors behind the server's own states: so it is undone, repeated and kept in checkpoints as they are.

A change is found at the p of one round, and may be added to that of a later one: its staleness is the rounds that it missed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np

from aimass.parameters.base import Pushed, Snapshot, Ticket
from aimass.parameters.handle import is_finite
from aimass.parameters.layout import LEASE_COMMITTED, LEASE_EPOCH, LEASE_LOCK, LEASE_OWNER, NOBODY, SLOT_PART, SLOT_PULLED, SLOT_REFUSED
from aimass.parameters.rounds import RoundServer
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.parameters.views.parts import PART_ROUND, PART_WEIGHT, REFUSED, Round
from aimass.parameters.views.shards import Shard, vector

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.parameters.handle import Basis
    from aimass.parameters.rounds import RoundOptions

NUM_ROUNDS, DECIDED, BEGUN_NS, QUORUM_NS, MEAN_STEPS = range(8, 13)
"""Control words: how many rounds are over; the one that is decided; when the present one's first worker fetched p, and when a quorum of it
was there, 0 before that; the steps that the mean states have taken, 0 where there are none, and -1 where that was not kept."""

PART_CELL, PART_COMMITTED, PART_BASE, PART_STEPS = SLOT_PART + 1, SLOT_PART + 2, SLOT_PART + 4, SLOT_PART + 6
"""Of a slot: the lease cell that its change is of, how many of the lease's batches are committed with it, the round whose p its worker
trains from, and the steps of its own optimizer."""

MEAN = "mean_"
"""What the names of mean states begin with."""


class AverageServer(RoundServer):
    """One process's handle on a block whose p moves to the mean of what those workers found that came in time.

    Args:
        basis, options: as for `RoundServer`. Where the layout has workers' own states, their means are the last of its states.

    Attributes:
        states_into: where `pull` copies the mean states, if there are any yet. Shape (num_parameters,) each.
        mean_steps: the steps that those have taken, as for `MEAN_STEPS`.
    """

    def __init__(self, *basis: *Basis, **options: Unpack[RoundOptions]) -> None:
        super().__init__(*basis, **options)
        self.states_into: Sequence[Tensor] = ()
        self.mean_steps = 0
        layout, slots = self.layout, range(self.layout.num_slots)
        self._mean_states = self.states[len(self.states) - layout.num_own_states :]
        offsets = [[layout.own_state_offset(slot, index) for slot in slots] for index in range(layout.num_own_states)]
        self._own_states = [[vector(self.memory, offset, layout.num_parameters) for offset in row] for row in offsets]
        self._spans = [[(low, high) for low, high, _ in layout.chunks(shard)] for shard in range(layout.num_shards)]

    def show_states(self, states: Sequence[Tensor], num_steps: int) -> None:
        """Lay the states of this worker's own optimizer beside the change that it is about to push.

        Args:
            states: shape (num_parameters,) each.
            num_steps: that it has taken.
        """
        slot = self.slot or 0
        for shown, state in zip(self._own_states, states, strict=True):
            shown[slot].copy_(state)
        self.words[self._parts[slot] + PART_STEPS] = num_steps

    @property
    def round_id(self) -> int:
        return self.id_of(self.words[NUM_ROUNDS])

    def is_decided(self, round_id: int) -> bool:
        """Whether a round takes no further change."""
        return self.words[DECIDED] == round_id

    def decide(self) -> None:
        """Close the present round. The caller holds the table's lock, and has seen that a slot is filled."""
        self.words[DECIDED] = self.round_id

    def filled(self) -> list[int]:
        """The slots whose changes are in the present round."""
        present = self.round_id
        return [slot for slot in range(len(self._parts)) if self.is_filled(slot, present)]

    def begins(self, slot: int) -> None:
        """Note that a worker sets out from the present round's p. The caller holds the table's lock."""
        self.words[self._parts[slot] + PART_BASE] = self.round_id

    def is_behind(self, slot: int) -> bool:
        """Whether a worker set out from the p of an earlier round."""
        return self.words[self._parts[slot] + PART_BASE] < self.round_id

    # ------------------------------------------------------------------------------------------------ pull and push

    def pull(self, out: Tensor) -> int:
        """Copy the p of one round into `out`, shape (num_parameters,), and return its clock."""
        if self.slot is None:
            return super().pull(out)
        words = self.words
        while True:
            present = self.round_id
            if self.is_decided(present):
                self.complete(wait=True)
                continue
            clock = super().pull(out)
            self.mean_steps = words[MEAN_STEPS]
            for mean, into in zip(self._mean_states, self.states_into, strict=False) if self.mean_steps else ():
                into.copy_(mean)
            if self.round_id == present and not self.is_decided(present):
                break
        words[self._parts[self.slot] + PART_BASE] = present
        words[BEGUN_NS] = words[BEGUN_NS] or time.monotonic_ns()
        return clock

    def push(self, gradient: Tensor, clock: int, ticket: Ticket | None = None) -> Pushed:
        """Put a change into the present round, or where that is decided, into the next."""
        slot, ticket = self.slot, ticket or self.ticket
        assert slot is not None, "a server without a slot cannot push"
        assert ticket is not None, "a change is of a lease"
        words, at, own = self.words, self._parts[slot], self.gradients[slot]
        assert not self.is_filled(slot, self.round_id), "nobody takes a lease while his change waits in a round"
        if gradient is not own and gradient.data_ptr() != own.data_ptr():
            np.copyto(own.numpy(), gradient.numpy())
        finite = is_finite(own) and all(is_finite(shown[slot]) for shown in self._own_states)
        self.reals[at + PART_WEIGHT] = ticket.weight if finite else REFUSED
        words[at + PART_CELL], words[at + PART_COMMITTED] = ticket.cell, ticket.committed
        cell = self.layout.cell(ticket.cell)
        before, missed = words[cell + LEASE_COMMITTED], self._fill_slot(slot, ticket)
        if missed is None:
            return Pushed.LEASE_LOST
        words[at + SLOT_PULLED] = clock
        if finite:
            self._count(slot, missed, ticket.committed - before)
            return Pushed.APPLIED
        words[at + SLOT_REFUSED] += 1
        return Pushed.NOT_FINITE

    def _fill_slot(self, slot: int, ticket: Ticket) -> int | None:
        """Step 1. How many rounds the change missed, or None where its lease had gone to another worker."""
        words, at, cell = self.words, self._parts[slot], self.layout.cell(ticket.cell)
        while True:
            with self.locks.held(LEASE_LOCK):
                if words[cell + LEASE_EPOCH] != ticket.epoch or words[cell + LEASE_OWNER] != slot:
                    return None
                present = self.round_id
                if not self.is_decided(present):
                    self._report_with(slot, present)
                    words[at + PART_ROUND] = present
                    return present - words[at + PART_BASE]
            self.complete(wait=True)

    # --------------------------------------------------------------------------------------------- apply and commit

    def _describe(self, round_id: int) -> Round:
        """What the filled slots say. Read without a lock: whether it still holds is seen under a shard's."""
        words, reals = self.words, self.reals
        weights = [(slot, reals[at + PART_WEIGHT]) for slot, at in enumerate(self._parts) if words[at + PART_ROUND] == round_id]
        kept = [(slot, weight) for slot, weight in weights if weight >= 0]
        total = sum(weight for _, weight in kept)
        shares = [(slot, 1.0 if self._sums else weight / total if total else 0.0) for slot, weight in kept]
        return Round(round_id, len(weights), 1.0, shares, 1.0)

    def _move_others(self, shard: Shard, index: int, now: Round) -> None:
        low, high = self._spans[shard.index][index]
        for mean, shown in zip(shard.chunks[index].others, self._own_states, strict=True):
            mean.zero_()
            for slot, share in now.shares:
                mean.add_(shown[slot][low:high], alpha=share)

    def _commit_round(self, now: Round) -> bool:
        """Step 4. A round without any finite change is over without a step."""
        if now.shares and not all(self._has(shard, now) for shard in self.shards):
            return False
        words = self.words
        with self.locks.held(LEASE_LOCK):
            if self.round_id == now.id and self.is_decided(now.id):
                for slot in self.filled():
                    self._commit_part(slot)
                if now.shares:
                    words[MEAN_STEPS] = round(sum(share * words[self._parts[slot] + PART_STEPS] for slot, share in now.shares))
                words[BEGUN_NS] = words[QUORUM_NS] = 0
                words[NUM_ROUNDS] += 1
        return True

    def _commit_part(self, slot: int) -> None:
        """A lease has come so far, and is nobody's. Writing it twice changes nothing."""
        words, at = self.words, self._parts[slot]
        cell = self.layout.cell(words[at + PART_CELL])
        if words[cell + LEASE_OWNER] == slot:
            words[cell + LEASE_COMMITTED] = words[at + PART_COMMITTED]
            words[cell + LEASE_OWNER] = NOBODY

    # ------------------------------------------------------------------------------------------ snapshot and restore

    def _cells(self) -> list[list[int]]:
        """The words of each lease cell: leases are open between two rounds."""
        return SharedMemoryServer._cells(self)

    def restore(self, snapshot: Snapshot) -> None:
        SharedMemoryServer.restore(self, snapshot)
        self._forget_rounds()
        means = self.layout.states[len(self.layout.states) - self.layout.num_own_states :]
        self.words[MEAN_STEPS] = -1 if snapshot.clock and means and set(means) <= set(snapshot.states) else 0

    def _empty_parts(self) -> None:
        """No slot is filled, and no round decided."""
        super()._empty_parts()
        self.words[DECIDED] = self.words[BEGUN_NS] = self.words[QUORUM_NS] = 0
