"""What a round is made of: the words of its parts, each in a slot, and what they say."""

from __future__ import annotations

from dataclasses import dataclass

from aimass.parameters.layout import SLOT_PART

PART_ROUND, PART_SIZE, PART_FIRST_BATCH, PART_WEIGHT, PART_OWNER, PART_DEADLINE_NS, PART_LEASES = range(SLOT_PART, SLOT_PART + 7)
"""The words of part j, in slot j: the round that it was last filled for; that round's parts, and the batches before it; its weight (a
double; below 0 where it was refused); who may write it; until when it should be filled, 0 where nobody is at it; that round's leases."""

REFUSED = -1.0
"""What a part weighs that is left out, because it has no rows or is not finite."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part in a worker's hand.

    Args:
        index: which part of its round, and so which gradient slot.
        size: the parts of its round.
        first_batch: the batches of the run before its round.
        num_batches: its own.
        num_leases: of its round.
        counts: for how many batches it counts.
    """

    index: int
    size: int
    first_batch: int
    num_batches: int
    num_leases: int
    counts: int


@dataclass(frozen=True, slots=True)
class Round:
    """A decided round: what to do to each shard."""

    id: int
    num_leases: int
    rate: float
    shares: list[tuple[int, float]]  # (slot, by how much it counts: its weight over the sum of weights, or 1), refused parts left out
    scale: float  # of the sum, to keep its norm within bounds
