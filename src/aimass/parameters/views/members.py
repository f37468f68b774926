"""What workers in groups tell each other: the words in their slots, and in those of their groups."""

from __future__ import annotations

from dataclasses import dataclass

from aimass.parameters.layout import SLOT_GROUPING, SLOT_MEMBER

PRESENT, PID, SPEED, TURNS, ROWS_DONE = range(SLOT_MEMBER, SLOT_MEMBER + 5)
"""A member's line in its group's table, in its own slot: a number of its own while it is there; its process, or the last one that was; its
rows a second (a double); how many shares it has handed in, and the rows of those. Of its state s = (clock of p, turn) the clock is
SLOT_PULLED."""

SHARE_EXCHANGE, SHARE_LEASE, SHARE_START, SHARE_STOP, SHARE_DEADLINE_NS = range(SLOT_MEMBER + 5, SLOT_MEMBER + 10)
"""What the supernode gives a member to do: for which exchange, 0 while it is being written; rows `start` to `stop` of a lease; until when
it should get on."""

HANDED_IN, SHARE_WEIGHT, SHARE_LOSS, SHARE_NS, OWN_STEPS = range(SLOT_MEMBER + 10, SLOT_MEMBER + 15)
"""What the member hands in beside its vector: for which exchange, which is the word that counts; its weight (a double, below 0 where the
vector was not finite) and its mean loss (a double); how long it took, 0 where that tells nothing; and the
steps of its own optimizer."""

SHARE = SLOT_MEMBER + 15
"""How much of an exchange a member gets, of 1 in all: a double."""

EXCHANGE, HOLDER, TAKEN, OVER, GROUP_CLOCK, EXCHANGES, ROOT_SENT, ROOT_RECEIVED, AVERAGED, MEAN_STEPS = range(SLOT_MEMBER, SLOT_MEMBER + 10)
"""A group's words, in its slot: the exchange under way; its supernode's slot plus one; how often the role was taken; whether there is
nothing left to do; the clock of the group's p; the exchanges done; the bytes that it sent to the root and got from it; how
often its members' states were averaged, which also tells on which side the newest mean is; the steps that this mean has taken."""

GROUP, ASSIGNED, TIMES_PRESENT = range(SLOT_GROUPING, SLOT_GROUPING + 3)
"""Of a worker: the group that it is in, and the one where it shall be, each plus one, or 0 for the group of its slot; how often it has
come into one."""

REFUSED = -1.0
"""What a share weighs whose vector was not finite."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one member does in one exchange: rows `start` to `stop` of a lease."""

    exchange: int
    lease: int
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """How many rows it is of."""
        return self.stop - self.start
