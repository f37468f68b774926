"""Groups of workers in front of a parameter server: each pushes as one, in the name of a slot of its own.

A group has a p of its own, at which its members compute, and a slot behind the workers' slots: there lie the combination that it pushes,
the intent and the undo room of that push, and the leases that it holds belong to that slot. So whoever acts for the group may change.
The one who does is the *supernode*: the process that holds the group's lock, which the kernel frees as its holder dies. Succession:

1. Any member that waits tries the lock now and then. Who gets it finishes the push that the dead one may have begun, from the combination
   in the group's slot. Then it writes its name as the holder's, which is the word that counts.
2. The driver, who buries the dead one, does the same as long as the dead one's name stands there, so that a group of which nobody lives
   leaves nothing half done. Both may be at it at once: each shard's lock is taken, and the push is told by its number, which only a
   holder moves on, under the first shard's lock.
3. What the dead one had gathered and not begun to push is lost, and is computed anew: its lease is still the group's.

A share is handed in by one word, the number of the exchange that it belongs to. The numbers only rise, and no two groups have one in
common, so that nothing that was meant for an exchange that was given up, or for another group's, is ever taken for one of the present.

A worker may move to another group. The driver writes to which it is assigned; the worker goes by itself:

1. *Not expected.* From the next cut on it gets no share: whoever cuts gives none to those who are assigned elsewhere. So what it found
   last has been combined, and its slot is free.
2. *Leave.* Under the group's lock of membership, in which shares are cut too, it sees that no newer exchange was cut, and is no longer
   present; then the one word that counts says that it is in the other group. Who leaves nobody behind gives the group's leases back. A
   supernode does all this before it gives the role up.
3. *Come.* It enters as a new worker would. One that dies on the way is replaced in the group that the word names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, TypeVar, Unpack

from aimass.parameters.base import Snapshot, Ticket
from aimass.parameters.counts import add_to_report
from aimass.parameters.layout import (
    SHARD_OWNER,
    SLOT_COUNTED,
    SLOT_INTENT,
    SLOT_REPORT_OF,
    SLOT_REPORTED,
    SLOT_SEQUENCE,
    STOP,
)
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.parameters.views.members import (
    ASSIGNED,
    AVERAGED,
    EXCHANGE,
    EXCHANGES,
    GROUP,
    HOLDER,
    MEAN_STEPS,
    OVER,
    PID,
    PRESENT,
    ROOT_RECEIVED,
    ROOT_SENT,
    ROWS_DONE,
    SHARE,
    SHARE_EXCHANGE,
    TAKEN,
    TIMES_PRESENT,
    TURNS,
)
from aimass.parameters.views.shards import vector

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.parameters.handle import Basis, ServerOptions

T = TypeVar("T")

_ROLE_LOCK, _MEMBERS_LOCK = 1 << 42, 1 << 43


class GroupServer(SharedMemoryServer):
    """One process's handle on the block: a member's, the driver's, or in the hand of a supernode its group's, which alone pushes.

    Args:
        basis, options: as for `Handle`, but that the rate counts batches.
        batches_per_push: how many batches a group's push stands for.
    """

    pushes_together = True

    def __init__(self, *basis: *Basis, batches_per_push: int = 1, **options: Unpack[ServerOptions]) -> None:
        memory, layout, update, rate = basis
        super().__init__(memory, layout, update, lambda push: rate(push * batches_per_push), **options)
        self._as_slot = partial(type(self), *basis, batches_per_push=batches_per_push, **options)
        slot = self.slot
        self._group_slots = [layout.slot(layout.group_slot(group)) for group in range(layout.num_groups)]
        self._homes = [layout.group_of(slot) for slot in range(layout.num_workers)]
        if slot is not None and slot < layout.num_workers:
            self._compute_at(self.group)

    def _compute_at(self, group: int) -> None:
        self.pulled = vector(self.memory, self.layout.group_offset(group), self.layout.num_parameters)

    def of_group(self) -> GroupServer:
        """The handle with which a supernode acts for its group."""
        assert self.slot is not None, "only members act for a group"
        return self._as_slot(slot=self.layout.group_slot(self.group))

    @property
    def group(self) -> int:
        """The group that this worker is in."""
        assert self.slot is not None, "only members are in a group"
        return self.group_of(self.slot)

    def group_of(self, slot: int) -> int:
        """The group that a worker is in, or that the last one in its slot was in."""
        return self.words[self._slots[slot] + GROUP] - 1 if self.words[self._slots[slot] + GROUP] else self._homes[slot]

    def assigned(self, slot: int) -> int:
        """The group where a worker shall be."""
        return self.words[self._slots[slot] + ASSIGNED] - 1 if self.words[self._slots[slot] + ASSIGNED] else self._homes[slot]

    def members(self, group: int) -> list[int]:
        """The slots of a group's workers, whether or not they are there."""
        return [slot for slot in range(self.layout.num_workers) if self.group_of(slot) == group]

    def present(self, group: int) -> dict[int, int]:
        """Those of them that are there, each with its number."""
        found = {slot: self.words[self._slots[slot] + PRESENT] for slot in self.members(group)}
        return {slot: number for slot, number in found.items() if number}

    @property
    def group_p(self) -> Tensor:
        """Where the members of this worker's group compute. Shape (num_parameters,)."""
        assert self.pulled is not None, "only members have a group's p"
        return self.pulled

    def own_states(self, slot: int) -> list[Tensor]:
        """The states of a member's own optimizer, where it shows them. Shape (num_parameters,) each."""
        layout = self.layout
        offsets = [layout.own_state_offset(slot, index) for index in range(layout.num_own_states)]
        return [vector(self.memory, offset, layout.num_parameters) for offset in offsets]

    def mean_states(self, side: int) -> list[Tensor]:
        """The means of those states over this worker's group, on one of the two sides. Shape (num_parameters,) each."""
        layout = self.layout
        offsets = [layout.mean_state_offset(self.group, side, index) for index in range(layout.num_own_states)]
        return [vector(self.memory, offset, layout.num_parameters) for offset in offsets]

    def holder(self, group: int) -> int:
        """The slot of a group's supernode, or of its last one; -1 before it had any."""
        return self.words[self._group_slots[group] + HOLDER] - 1

    # ------------------------------------------------------------------------------------------------------ the role

    def take_role(self) -> bool:
        """Become the supernode of this worker's group, if there is none, and finish what the last one had begun."""
        at, words = self._group_slots[self.group], self.words
        if not self.locks.try_acquire(_ROLE_LOCK + self.group):
            return False
        if words[STOP] or words[at + OVER]:  # the last one had nothing more to do
            self.leave_role()
            return False
        self._finish(self.group)
        words[at + HOLDER] = (self.slot or 0) + 1
        words[at + TAKEN] += 1
        return True

    def leave_role(self, group: int | None = None) -> None:
        """Let another member be the supernode, of this worker's group or of the one that it was in."""
        self.locks.release(_ROLE_LOCK + (self.group if group is None else group))

    def recover(self, slot: int) -> bool:
        return slot < self.layout.num_workers and self._finish(self.group_of(slot), slot + 1)

    def _finish(self, group: int, holder: int | None = None) -> bool:
        """Finish the push that a group's dead supernode had begun, unless somebody else has.

        Args:
            group: whose slot it is in.
            holder: the dead one's word: where another stands there, the role has been taken, and what was begun is done.
        """
        words, at, slot = self.words, self._group_slots[group], self.layout.group_slot(group)
        sequence = words[at + SLOT_SEQUENCE]
        if not words[at + SLOT_INTENT] or (holder is not None and words[at + HOLDER] != holder):
            return False
        for shard in self.shards:
            with self.locks.held(shard.index):
                if words[shard.words + SHARD_OWNER]:
                    self._repair(shard)
                if words[at + SLOT_SEQUENCE] == sequence and self._is_missing(shard, slot):
                    self._apply(shard, slot)
        with self.locks.held(self.shards[0].index):
            if words[at + SLOT_SEQUENCE] == sequence and words[at + SLOT_INTENT]:
                self._commit(slot)
        return True

    def next_exchange(self, last: int) -> int:
        """The number of the exchange after another of this worker's group. No other group has it."""
        num_groups = self.layout.num_groups
        return (last // num_groups + 1) * num_groups + self.group

    # ------------------------------------------------------------------------------------------------- coming and going

    def come(self, pid: int) -> None:
        """Be there, as a member of this worker's group."""
        words, at = self.words, self._slots[self.slot or 0]
        words[at + TIMES_PRESENT] += 1
        words[at + PID] = pid
        words[at + PRESENT] = words[at + TIMES_PRESENT]

    def members_held(self) -> AbstractContextManager[None]:
        """Keep members of this worker's group from moving, while shares are cut."""
        return self.locks.held(_MEMBERS_LOCK + self.group)

    def go(self, seen: int | None, vacate: Callable[[int], object]) -> bool:
        """Step 2 of a move: leave for the group where this worker is assigned.

        Args:
            seen: the exchange that was the last when it was found that nothing is expected; None for a supernode, who cuts them.
            vacate: called with a group of which nobody is left.

        Returns:
            whether it has left. It has not where another exchange was cut meanwhile.
        """
        slot, before = self.slot, self.group
        assert slot is not None, "only members move"
        words, at, there = self.words, self._slots[slot], self.assigned(slot)
        with self.members_held():
            if seen not in (None, words[self._group_slots[before] + EXCHANGE]):
                return False
            words[at + PRESENT] = 0
            self.close(before, vacate)
            self.reals[at + SHARE] = 0.0
            words[at + GROUP] = there + 1
            if seen is None:
                self.leave_role(before)
        self._compute_at(there)
        return True

    def close(self, group: int, vacate: Callable[[int], T]) -> T | None:
        """Vacate a group in which nobody is left. Who comes just now and leads it already goes on with what it has, and it stays open.

        Args:
            group: that somebody has left, or in which somebody has died.
            vacate: gives the group's leases to others.

        Returns:
            what that returns; None where it was not called.
        """
        if self.present(group) or not self.locks.try_acquire(_ROLE_LOCK + group):
            return None
        found = None if self.present(group) else vacate(group)
        self.leave_role(group)
        return found

    def assign(self, groups: Mapping[int, int]) -> None:
        """In the driver's hand: say where workers shall be.

        Args:
            groups: of some workers' slots.
        """
        for slot, group in groups.items():
            self.words[self._slots[slot] + ASSIGNED] = group + 1

    # ------------------------------------------------------------------------------------------- what the group does

    def skip(self, ticket: Ticket) -> None:
        """In a group's hand: count batches as done of whose gradients none was finite."""
        assert self.slot is not None, "a group has a slot"
        self._skip(self.slot, ticket)

    def add_report(self, slot: int, exchange: int, steps: int, rows: int, loss: float, weight: float) -> None:
        """Say what is to be counted of a member once its group's exchange is committed, beside what was said of that exchange before.

        Args:
            slot: the member's.
            exchange: the number of the one under way.
            steps, rows, loss, weight: as for `report`.
        """
        words, at = self.words, self._slots[slot]
        if words[at + SLOT_REPORT_OF] != exchange:
            self.report(slot, steps, rows, loss, weight, of=exchange)
        else:
            add_to_report(words, self.reals, at, steps, rows, loss, weight)

    def _commit(self, slot: int) -> None:
        """A group's push ends: what its members did for it counts."""
        words, exchange = self.words, self.words[self._slots[slot] + EXCHANGE]
        for at in self._slots[: self.layout.num_workers]:
            if words[at + SLOT_REPORT_OF] == exchange:
                words[at + SLOT_COUNTED] = words[at + SLOT_REPORTED]
        super()._commit(slot)

    def is_pushing(self, slot: int) -> bool:
        """Whether a push of a group's slot is under way, or one that a worker makes for its group."""
        if slot >= self.layout.num_workers:
            return super().is_pushing(slot)
        group = self.group_of(slot)
        return self.holder(group) == slot and super().is_pushing(self.layout.group_slot(group))

    def progress(self, slot: int) -> tuple[int, ...]:
        return super().progress(self.layout.group_slot(self.group_of(slot)) if slot < self.layout.num_workers else slot)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back. Nobody is there, nobody has a role, and no exchange is under way."""
        super().restore(snapshot)
        for at in self._group_slots:
            for word in (HOLDER, TAKEN, OVER, EXCHANGES, ROOT_SENT, ROOT_RECEIVED, AVERAGED, MEAN_STEPS):
                self.words[at + word] = 0
        for slot in range(self.layout.num_workers):
            for word in (PRESENT, SHARE_EXCHANGE, TURNS, ROWS_DONE):
                self.words[self._slots[slot] + word] = 0
            self.words[self._slots[slot] + GROUP] = self.words[self._slots[slot] + ASSIGNED]
