"""Which rows each lease holds, told from a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_PERMUTATION = 1 << 20
_UNBOUNDED = 1 << 62


@dataclass(frozen=True, kw_only=True)
class LeasePlan:
    """Which rows each lease holds: a pure function of a few numbers, the same in every process.

    Args:
        num_rows: training rows.
        batch_size: rows per batch; the last batch of an epoch may be smaller.
        batches_per_lease: batches per lease; the last lease of an epoch may have fewer.
        seed: of the permutations, one an epoch.
        total_batches: where training ends; None for no end.

    >>> plan = LeasePlan(num_rows=10, batch_size=4, batches_per_lease=2, seed=0, total_batches=6)
    >>> plan.batches_per_epoch, plan.leases_per_epoch, plan.num_leases, [plan.num_batches(i) for i in range(4)]
    (3, 2, 4, [2, 1, 2, 1])
    """

    num_rows: int
    batch_size: int
    batches_per_lease: int
    seed: int
    total_batches: int | None

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass over the rows."""
        return -(-self.num_rows // self.batch_size)

    @property
    def leases_per_epoch(self) -> int:
        """Leases in one pass over the rows."""
        return -(-self.batches_per_epoch // self.batches_per_lease)

    @property
    def num_leases(self) -> int:
        """Leases in the whole run."""
        if self.total_batches is None:
            return _UNBOUNDED
        epochs, rest = divmod(self.total_batches, self.batches_per_epoch)
        return epochs * self.leases_per_epoch + -(-rest // self.batches_per_lease)

    def first_batch(self, lease: int) -> int:
        """How many batches of the run come before a lease."""
        epoch, index = divmod(lease, self.leases_per_epoch)
        batches = epoch * self.batches_per_epoch + index * self.batches_per_lease
        return batches if self.total_batches is None else min(batches, self.total_batches)

    def num_batches(self, lease: int) -> int:
        """Batches in a lease."""
        index = lease % self.leases_per_epoch
        batches = min(self.batches_per_lease, self.batches_per_epoch - index * self.batches_per_lease)
        if self.total_batches is not None:
            batches = min(batches, self.total_batches - self.first_batch(lease))
        return batches

    def rows(self, lease: int, num_leases: int = 1) -> NDArray[np.int64]:
        """The rows of a lease in the order in which they are trained on. int64 (num_rows_of_the_lease,).

        Args:
            lease: which.
            num_leases: those after it too, in the same epoch.
        """
        epoch, index = divmod(lease, self.leases_per_epoch)
        order = epoch_order(self.num_rows, self.seed, epoch)
        start = index * self.batches_per_lease * self.batch_size
        num_batches = sum(self.num_batches(number) for number in range(lease, lease + num_leases))
        return order[start : start + num_batches * self.batch_size]


@lru_cache(maxsize=2)
def epoch_order(num_rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the rows in one epoch: blocks in a seeded permutation. A block is one row up to a million rows.

    >>> sorted(epoch_order(5, 0, 0).tolist())
    [0, 1, 2, 3, 4]
    """
    block = -(-num_rows // _LARGEST_PERMUTATION)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    blocks = generator.permutation(-(-num_rows // block))
    if block == 1:
        return blocks
    rows = (blocks[:, None] * block + np.arange(block)).ravel()
    return rows[rows < num_rows]
