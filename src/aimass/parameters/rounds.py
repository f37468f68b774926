"""Synchronous rounds in shared memory: every part's change is summed in a fixed order and applied once, whoever dies.

A round is m parts. Its id names the run's incarnation and its first lease, so that it never comes again.

1. *Compute.* p stands still. Part j's change is written to gradient slot j, by the one process that owns the part. Killed here, the
   part is as before: whoever owns it next computes it anew, from the same p, rows and seed.
2. *Fill.* The part's weight and the round's size are written, then the one word that counts: the part's round is this one. A part
   that is filled is not written again before the round is committed.
3. *Decide.* The round is decided when all its parts are filled. That is no write, so nobody can die in it, and from here on the
   round can only go forwards. A part is filled under the table's lock, so whoever holds that keeps rounds from being decided.
4. *Apply.* Shard by shard, each process beginning at another, under the shard's lock: name the owner; chunk by chunk, save the
   chunk, mark it (an odd progress), change it, mark it done (an even one); then the clock and the shard's round; then clear the owner,
   which is the word that counts. Killed between two shards, nothing is half done. Killed inside, the owner still stands there: the next
   to take the lock puts a marked chunk back, becomes the owner, and goes on. What it computes is what the dead one would have, since the
   slots, the weights and the order of the sum are the same.
5. *Commit.* When all shards have the round and no owner, the next lease moves behind the round's, under the table's lock: one
   word. Killed before it, whoever looks next sees the same and writes it; after it, the round is over.

A process may act on an old view of a round. It sees so under the lock: a shard that lacks the round keeps it from being committed, so if
the round is still the present one then, it stays so while the lock is held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING, Unpack

import numpy as np

from aimass.optim.config import ClipConfig
from aimass.parameters.base import Pushed, Snapshot, Ticket
from aimass.parameters.handle import ServerOptions, is_finite
from aimass.parameters.layout import (
    INCARNATION,
    LEASE_LOCK,
    NEXT_LEASE,
    NOBODY,
    RATE_FACTOR,
    SHARD_CLOCK,
    SHARD_NEXT_CLOCK,
    SHARD_OWNER,
    SHARD_PROGRESS,
    SHARD_REPAIRS,
    SHARD_SEQUENCE,
    SHARE_CUT,
    SHARE_OPEN,
    SLOT_COUNTED,
    SLOT_PULLED,
    SLOT_REFUSED,
    SLOT_REPORT_OF,
    SLOT_REPORT_PART,
    SLOT_REPORTED,
    SLOT_STALENESS,
    SLOT_VECTORS,
)
from aimass.parameters.mean import Mean
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.parameters.views.parts import (
    PART_DEADLINE_NS,
    PART_FIRST_BATCH,
    PART_LEASES,
    PART_OWNER,
    PART_ROUND,
    PART_SIZE,
    PART_WEIGHT,
    REFUSED,
    Part,
    Round,
)

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.parameters.handle import Basis
    from aimass.parameters.views.shards import Shard

_NUM_LEASES = 1 << 40


class RoundOptions(ServerOptions, total=False):
    """What a server of rounds can be made with beside its basis; `RoundServer` says what its own are."""

    clip: ClipConfig | None
    sums: bool


class RoundServer(SharedMemoryServer):
    """One process's handle on a block whose p moves in rounds.

    Args:
        basis, options: as for `Handle`.
        clip: bounds of the mean gradient, applied once it is put together.
        sums: whether parts are added up as they are, rather than averaged by their weights.
    """

    pushes_together = True

    def __init__(self, *basis: *Basis, clip: ClipConfig | None = None, sums: bool = False, **options: Unpack[ServerOptions]) -> None:
        super().__init__(*basis, **options)
        self.part: Part | None = None
        self._sums = sums
        self._parts = [self.layout.slot(i) for i in range(self.layout.num_slots)]
        self._mean = Mean(clip or ClipConfig(), self.layout.undo_size)

    def _set_up(self) -> None:
        super()._set_up()
        self._empty_parts()

    # --------------------------------------------------------------------------------------------------------- parts

    @property
    def round_id(self) -> int:
        """The present round, which is the one that is not committed."""
        return self.id_of(self.words[NEXT_LEASE])

    def id_of(self, first_lease: int) -> int:
        """The round of this incarnation that begins with a lease. Never 0, which stands for none."""
        return self.words[INCARNATION] * _NUM_LEASES + first_lease + 1

    @property
    def gradient(self) -> Tensor:
        """The slot of the part in hand, shape (num_parameters,)."""
        assert self.slot is not None, "a server without a slot computes no part"
        return self.gradients[self.slot if self.part is None else self.part.index]

    def is_filled(self, part: int, round_id: int) -> bool:
        """Whether a part of a round is there."""
        return self.words[self._parts[part] + PART_ROUND] == round_id

    def is_decided(self, round_id: int) -> bool:
        """Whether all parts of a round are there, and none of a later one."""
        words, first = self.words, self._parts[0]
        if words[first + PART_ROUND] != round_id:
            return False
        return all(words[at + PART_ROUND] == round_id for at in self._parts[1 : words[first + PART_SIZE]])

    def push(self, gradient: Tensor, clock: int, ticket: Ticket | None = None) -> Pushed:
        """Fill the part in hand, and where it was the last one, bring the round on. A part that was cut short is left out."""
        part, ticket = self.part, ticket or self.ticket
        assert part is not None, "a part is filled by whoever took it"
        assert ticket is not None, "a part has a ticket"
        if ticket.committed < part.num_batches:
            return Pushed.LEASE_LOST
        own = self.gradients[part.index]
        if gradient is not own and gradient.data_ptr() != own.data_ptr():
            np.copyto(own.numpy(), gradient.numpy())
        finite = is_finite(own)
        self._fill(part, ticket.weight if finite else REFUSED)
        slot = self.layout.slot(self.slot or 0)
        self.words[slot + SLOT_PULLED] = clock
        if finite:
            self.words[slot + SLOT_STALENESS] += part.counts  # nobody is ever behind
        else:
            self.words[slot + SLOT_REFUSED] += 1
        if self._counts_load:
            self.words[slot + SLOT_VECTORS] += 1
        self.complete()
        return Pushed.APPLIED if finite else Pushed.NOT_FINITE

    def _fill(self, part: Part, weight: float) -> None:
        words, at = self.words, self._parts[part.index]
        self._describe_part(part, weight)
        with self.locks.held(LEASE_LOCK):
            self._report_with(part.index, self.round_id)
            words[at + PART_ROUND] = self.round_id
            if part.index != self.slot:
                words[at + PART_OWNER] = NOBODY  # it was done for a worker that is gone

    def _report_with(self, part: int, round_id: int) -> None:
        """What this worker reported holds once a part is filled for a round, and not before."""
        words, own = self.words, self._parts[self.slot or 0]
        words[own + SLOT_REPORT_PART] = part
        words[own + SLOT_REPORT_OF] = round_id

    def _side(self, slot: int) -> int:
        words, at = self.words, self._parts[slot]
        while True:
            round_id, side = words[at + SLOT_REPORT_OF], words[at + SLOT_REPORTED]
            holds = round_id and words[self._parts[words[at + SLOT_REPORT_PART]] + PART_ROUND] >= round_id
            if words[at + SLOT_REPORT_OF] == round_id:  # its worker has not begun another report meanwhile
                return side if holds else words[at + SLOT_COUNTED]

    def leave_out(self, part: Part) -> None:
        """Fill a part that has no rows, under the table's lock."""
        self._describe_part(part, REFUSED)
        self.words[self._parts[part.index] + PART_ROUND] = self.round_id

    def _describe_part(self, part: Part, weight: float) -> None:
        words, at = self.words, self._parts[part.index]
        self.reals[at + PART_WEIGHT] = weight
        words[at + PART_SIZE] = part.size
        words[at + PART_FIRST_BATCH] = part.first_batch
        words[at + PART_LEASES] = part.num_leases

    # ------------------------------------------------------------------------------------------- apply and commit

    def complete(self, *, acting: int | None = None, wait: bool = False) -> bool:
        """Bring a decided round on: apply it where nobody else does, and commit it once every shard has it.

        Args:
            acting: in whose name, so in whose room for undoing; by default this worker's own.
            wait: for shards that another process is at, rather than leave them to it.

        Returns:
            whether there was anything to do.
        """
        present = self.round_id
        if not self.is_decided(present):
            return False
        now, acting = self._describe(present), self.slot if acting is None else acting
        assert acting is not None, "a server without a slot acts in the name of one"
        moved, num_shards = False, len(self.shards)
        for shard in self.shards[acting % num_shards :] + self.shards[: acting % num_shards] if now.shares else ():
            if self._has(shard, now):
                continue
            asked_ns = perf_counter_ns() if self._counts_load else 0
            if wait:
                self.locks.acquire(shard.index)
            elif not self.locks.try_acquire(shard.index):
                continue
            entered_ns = perf_counter_ns() if self._counts_load else 0
            if self.round_id == now.id:
                self._bring_on(shard, now, acting)
            if self._counts_load:
                self._note_load(shard, asked_ns, entered_ns)
            self.locks.release(shard.index)
            moved = True
        return self._commit_round(now) or moved

    def _describe(self, round_id: int) -> Round:
        """What the parts of a decided round say. Read without a lock: whether it still holds is seen under a shard's."""
        words, reals, first = self.words, self.reals, self._parts[0]
        size = words[first + PART_SIZE]
        weights = [(slot, reals[at + PART_WEIGHT]) for slot, at in enumerate(self._parts[:size])]
        kept = [(slot, weight) for slot, weight in weights if weight >= 0]
        total = sum(weight for _, weight in kept)
        shares = [(slot, 1.0 if self._sums else weight / total if total else 0.0) for slot, weight in kept]
        rate = self.rate(words[first + PART_FIRST_BATCH]) * reals[RATE_FACTOR]
        return Round(round_id, words[first + PART_LEASES], rate, shares, self._mean.norm_scale(self.shards, shares))

    def _has(self, shard: Shard, now: Round) -> bool:
        """Whether a shard has met the round and nobody is at it. The order of the two reads matters."""
        return self.words[shard.words + SHARD_SEQUENCE] == now.id and not self.words[shard.words + SHARD_OWNER]

    def _bring_on(self, shard: Shard, now: Round, acting: int) -> None:
        """Step 4, under the shard's lock."""
        words, at = self.words, shard.words
        if words[at + SHARD_OWNER]:
            self._take_over(shard, acting)
        elif words[at + SHARD_SEQUENCE] != now.id:
            words[at + SHARD_NEXT_CLOCK] = words[at + SHARD_CLOCK] + 1
            words[at + SHARD_PROGRESS] = 0
            words[at + SHARD_OWNER] = acting + 1
        else:
            return
        self._move(shard, now, acting)

    def _take_over(self, shard: Shard, acting: int) -> None:
        """Make whole the chunk at which a shard's owner died, and become the owner."""
        words, at = self.words, shard.words
        dead, progress = words[at + SHARD_OWNER] - 1, words[at + SHARD_PROGRESS]
        if progress % 2:
            if self.atomic:
                for saved, row in shard.chunks[progress // 2].undo[dead]:
                    np.copyto(row, saved)
            words[at + SHARD_PROGRESS] = progress - 1 if self.atomic else progress + 1
        words[at + SHARD_OWNER] = acting + 1
        words[at + SHARD_REPAIRS] += 1

    def _move(self, shard: Shard, now: Round, acting: int) -> None:
        words, at, update = self.words, shard.words, self.update
        step, progress = words[at + SHARD_NEXT_CLOCK], words[at + SHARD_PROGRESS]
        for chunk in shard.chunks[progress // 2 :]:
            mean = self._mean.of(chunk, now.shares, now.scale)
            if self.atomic:
                for saved, row in chunk.undo[acting]:
                    np.copyto(saved, row)
            words[at + SHARD_PROGRESS] = progress + 1
            update.apply(chunk.p, mean, chunk.states, step, now.rate * chunk.rate, chunk.weight_decay)
            if chunk.others:
                self._move_others(shard, progress // 2, now)
            progress += 2
            words[at + SHARD_PROGRESS] = progress
        words[at + SHARD_CLOCK] = step
        words[at + SHARD_SEQUENCE] = now.id
        words[at + SHARD_OWNER] = 0

    def _move_others(self, shard: Shard, index: int, now: Round) -> None:
        """Change what lies beside p in one of a shard's chunks. Here nothing does."""

    def _commit_round(self, now: Round) -> bool:
        """Step 5. A round without any finite part is over without a step."""
        if now.shares and not all(self._has(shard, now) for shard in self.shards):
            return False
        with self.locks.held(LEASE_LOCK):
            if self.round_id == now.id:
                self.words[NEXT_LEASE] += now.num_leases
        return True

    # ----------------------------------------------------------------------------------------------------- recovery

    def _repair(self, shard: Shard) -> None:
        """Finish, on one locked shard, what a dead owner had begun: for readers of p."""
        acting = self.words[shard.words + SHARD_OWNER] - 1 if self.slot is None else self.slot
        self._bring_on(shard, self._describe(self.round_id), acting)

    def recover(self, slot: int) -> bool:
        """Bring on, in a dead worker's name, the round that it may have left decided."""
        inside = self.is_pushing(slot)
        for shard in self.shards:
            with self.locks.held(shard.index):  # from here on nobody reads what the slot had saved
                if self.words[shard.words + SHARD_OWNER] == slot + 1:
                    self._bring_on(shard, self._describe(self.round_id), slot)
        self.complete(acting=slot, wait=True)
        return inside

    def is_pushing(self, slot: int) -> bool:
        """Whether a worker is changing a shard."""
        return any(self.words[shard.words + SHARD_OWNER] == slot + 1 for shard in self.shards)

    def progress(self, slot: int) -> tuple[int, ...]:
        words = self.words
        owned = [shard.words for shard in self.shards if words[shard.words + SHARD_OWNER] == slot + 1]
        return tuple(words[at + word] for at in owned for word in (SHARD_NEXT_CLOCK, SHARD_PROGRESS))

    # ------------------------------------------------------------------------------------------ snapshot and restore

    @contextmanager
    def paused(self, tend: Callable[[], None] | None = None) -> Iterator[Snapshot]:
        """Hold back rounds while a `with` block lasts. One that is decided is brought to its end first; the parts of one that is not
        are no part of the moment."""
        with self.locks.held(LEASE_LOCK):
            while self.is_decided(present := self.round_id):
                if self.slot is not None:
                    self.complete(wait=True)
                    continue
                if tend is not None:
                    tend()
                if not self._commit_round(self._describe(present)):  # whoever applied the last shard waits for the lock that is held here
                    time.sleep(0.0002)
            yield self._moment()

    def _cells(self) -> list[list[int]]:
        """The leases that are open between two rounds: none."""
        return []

    def restore(self, snapshot: Snapshot) -> None:
        assert not snapshot.open_cells, "rounds go on from a snapshot between two of them"
        super().restore(snapshot)
        self._forget_rounds()

    def _forget_rounds(self) -> None:
        """Nothing is left of what was under way."""
        self._empty_parts()
        for shard in self.shards:
            self.words[shard.words + SHARD_SEQUENCE] = self.words[shard.words + SHARD_OWNER] = 0

    def _empty_parts(self) -> None:
        """Nobody owns or has filled any part."""
        for at in self._parts:
            for word in (PART_ROUND, PART_SIZE, PART_FIRST_BATCH, PART_WEIGHT, PART_DEADLINE_NS, PART_LEASES, SHARE_CUT, SHARE_OPEN):
                self.words[at + word] = 0
            self.words[at + PART_OWNER] = NOBODY
