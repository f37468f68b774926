"""Who computes what in each round, where p is divided among the workers: all of them take the same round together.

Where each has layers to itself, a round is one batch, which goes through all of them. Where each has a part of every tensor, a round
is dealt out as under all-reduce.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimass.parameters.slices import SliceServer
from aimass.training.leases.replicas import ReplicaTable

if TYPE_CHECKING:
    from aimass.training.leases.plan import LeasePlan


class SliceTable(ReplicaTable):
    """The rounds, as one process sees them.

    Args:
        server: whose parts say how many batches are done.
        plan: what each lease, and so each batch, holds.
        timeout_s: how long a round may take.
        shares_batches: whether all workers work on the same batch, each on its layers.
    """

    def __init__(self, server: SliceServer, plan: LeasePlan, timeout_s: float, *, shares_batches: bool) -> None:
        super().__init__(server, plan, timeout_s)
        self.slices, self.shares_batches = server, shares_batches
        if shares_batches:
            self._most_batches = 1

    def batches_of(self, done: int, end: int) -> list[int]:
        """The batches of the round that leads from so many done to so many, whoever has them."""
        return [self._batch(at) for at in range(done, end)]

    def _dealt(self, slot: int, done: int, end: int) -> range:
        return range(done, end) if self.shares_batches else super()._dealt(slot, done, end)

    def release_all(self) -> None:
        """After a restore, and before the first round: the cells say how far all parts are."""
        self.__dict__.pop("_origin", None)
        self.slices.begin_at(self._origin.done)
