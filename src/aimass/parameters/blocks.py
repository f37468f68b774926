"""A server whose parameters are cut into blocks, each of which one worker owns and nobody else changes.

Block i is shard i, and the worker in slot i owns it, whoever that is: one in place of a dead one finds the block as it was left, with its
optimizer's states and its version, the shard's clock. So a push is one shard's:

1. *Admit*, under the table's lock: the lease is checked and the slot's intent is set.
2. *Apply*, under the block's lock, as in `shared_memory`. Others wait for it only where they read this block at this moment.
3. *Commit* the batch, and clear the intent.

A block whose version has changed since a worker read it last is a message to that worker. It mixes it into what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from aimass.optim.bounds import Bounded
from aimass.parameters.base import Pushed, Snapshot, Ticket
from aimass.parameters.handle import is_finite
from aimass.parameters.layout import LEASE_LOCK, SHARD_CLOCK, SHARD_OWNER, SLOT_INTENT, SLOT_PULLED
from aimass.parameters.shared_memory import SharedMemoryServer

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.models.manifest import Manifest
    from aimass.optim.bounds import Bounds
    from aimass.parameters.handle import Basis, ServerOptions

_LEAST_SHARE = 0.75
_CUT = 16  # inside a tensor blocks meet at a multiple of this, a CPU register


class BlockServer(SharedMemoryServer):
    """One process's handle on a block of memory whose shards have owners.

    Args:
        basis, options: as for `Handle`. The layout has as many shards as slots.
        mix: β, the part that a message has in what a worker makes of a block of another.
        bounds: what keeps the weights small; None for nothing.
    """

    def __init__(self, *basis: *Basis, mix: float = 1.0, bounds: Bounds | None = None, **options: Unpack[ServerOptions]) -> None:
        super().__init__(*basis, **options)
        assert len(self.shards) == self.layout.num_slots, "each worker owns one block"
        self.mix, self.received = mix, 0
        if bounds is not None:
            self.update = Bounded(self.update, bounds)
        if (num_slots := self.layout.num_slots) > 1:
            rate = self.rate
            self.rate = lambda step: rate(num_slots * step)  # each block meets one batch in so many
        self._versions = [-1] * len(self.shards)

    @property
    def clock(self) -> int:
        """How many pushes there were: the sum of the blocks' versions."""
        return sum(self.words[shard.words + SHARD_CLOCK] for shard in self.shards)

    @property
    def own(self) -> slice:
        """Where in p this worker's block lies."""
        assert self.slot is not None, "a server without a slot owns nothing"
        return slice(self.shards[self.slot].start, self.shards[self.slot].stop)

    # ------------------------------------------------------------------------------------------------ pull and push

    def pull(self, out: Tensor) -> int:
        """Bring what is new into `out`: the own block as it is, and of the others' those that changed since the last time.

            w_j ← (1 − β) w_j + β w_i        β = mix, and 1 for a block that was never read

        `received` counts the parameters that came so.
        """
        words, locks, clock = self.words, self.locks, self.clock
        if out.data_ptr() == self.p.data_ptr():
            return clock
        for index, shard in enumerate(self.shards):
            at, before = shard.words, self._versions[index]
            if words[at + SHARD_CLOCK] == before and not words[at + SHARD_OWNER] and self.slot is not None:
                continue
            locks.acquire_shared(index)
            while words[at + SHARD_OWNER]:
                locks.release(index)
                with locks.held(index):
                    if words[at + SHARD_OWNER]:
                        self._repair(shard)
                locks.acquire_shared(index)
            part = out[shard.start : shard.stop]
            if index == self.slot or before < 0 or self.mix == 1.0 or self.slot is None:
                np.copyto(part.numpy(), shard.p)
            else:
                part.lerp_(self.p[shard.start : shard.stop], self.mix)
            self._versions[index] = words[at + SHARD_CLOCK]
            locks.release(index)
            if index != self.slot:
                self.received += shard.stop - shard.start
        return clock

    def push(self, gradient: Tensor, clock: int, ticket: Ticket | None = None) -> Pushed:
        """Apply the part of a gradient that belongs to the own block."""
        slot, ticket = self.slot, ticket or self.ticket
        assert slot is not None, "a server without a slot cannot push"
        own, words, at, shard = self.gradients[slot], self.words, self._slots[slot], self.shards[slot]
        if gradient is not own and gradient.data_ptr() != own.data_ptr():
            np.copyto(own.numpy(), gradient.numpy())
        if not is_finite(own[self.own]):
            return self._refuse(slot, ticket)
        with self.locks.held(LEASE_LOCK):
            staleness = self.clock - clock
            words[at + SLOT_PULLED] = clock
            if not self._admit(slot, ticket, staleness):
                return Pushed.LEASE_LOST
        with self.locks.held(shard.index):
            self._apply(shard, slot)
        self._commit(slot)
        self._count(slot, staleness)
        return Pushed.APPLIED

    # ----------------------------------------------------------------------------------------------------- recovery

    def recover(self, slot: int) -> bool:
        words, at, shard = self.words, self._slots[slot], self.shards[slot]
        if not words[at + SLOT_INTENT]:
            return False
        with self.locks.held(shard.index):
            if words[shard.words + SHARD_OWNER]:
                self._repair(shard)
            if self._is_missing(shard, slot):
                self._apply(shard, slot)
        self._commit(slot)
        return True

    @contextmanager
    def paused(self, tend: Callable[[], None] | None = None) -> Iterator[Snapshot]:
        """Pushes are admitted under the table's lock, so that it holds back all of them."""
        with self.locks.held(LEASE_LOCK):
            self._await_pushes(tend)
            yield self._moment()

    def restore(self, snapshot: Snapshot) -> None:
        """Go back. A snapshot knows how many pushes there were in all; of these each block gets its share as its version."""
        super().restore(snapshot)
        versions, more = divmod(snapshot.clock, len(self.shards))
        for index, shard in enumerate(self.shards):
            self.words[shard.words + SHARD_CLOCK] = versions + (index < more)
        self._versions = [-1] * len(self.shards)


def cut_into_blocks(manifest: Manifest, num_blocks: int) -> tuple[int, ...]:
    """Where blocks start, and where the last one stops: about the same size, and between two tensors where one ends nearby.

    Args:
        manifest: of p.
        num_blocks: at most as many as there are parameters.

    >>> from torch import nn
    >>> from aimass.models.manifest import Manifest
    >>> cut_into_blocks(Manifest.of(nn.Sequential(nn.Linear(10, 8), nn.Linear(8, 12))), 2)
    (0, 80, 196)
    """
    size, ends = manifest.num_parameters, [entry.offset + entry.size for entry in manifest.entries]
    cuts = [0]
    for index in range(1, num_blocks):
        fair = (size - cuts[-1]) / (num_blocks - index + 1)
        ideal = cuts[-1] + fair
        nearest = min(ends, key=lambda end: abs(end - ideal))
        inside = round(ideal) - round(ideal) % _CUT if fair >= 2 * _CUT else round(ideal)
        cut = nearest if abs(nearest - ideal) <= (1 - _LEAST_SHARE) * fair else inside
        cuts.append(min(max(cut, cuts[-1] + 1), size - (num_blocks - index)))
    return (*cuts, size)


def describe_blocks(manifest: Manifest, cuts: Sequence[int]) -> list[dict[str, Any]]:
    """Each tensor's part in each block: `name`, `start` inside the tensor, `size`, and the `owner`'s slot."""
    found = []
    for owner, (start, stop) in enumerate(pairwise(cuts)):
        for entry in manifest.entries:
            first, end = max(start, entry.offset), min(stop, entry.offset + entry.size)
            if first < end:
                found.append({"name": entry.name, "start": first - entry.offset, "size": end - first, "owner": owner})
    return found
