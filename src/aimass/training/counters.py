"""What the workers of a run have counted, added up: over all slots, and over the times before the run was resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aimass.parameters.layout import NUM_STALENESS_BINS, SLOT_REFUSED, SLOT_STALENESS
from aimass.training.worker import LOSS, LOSS_ROWS, ROWS, STEPS

if TYPE_CHECKING:
    from aimass.parameters.shared_memory import SharedMemoryServer


class Counters:
    """Reads the slots' words.

    Args:
        server: whose block holds them.
        before: what `state` gave when the run stopped last.
    """

    def __init__(self, server: SharedMemoryServer, before: dict[str, Any] | None = None) -> None:
        self._words = server.words
        self._reals = server.reals
        self._slots = [server.layout.slot(slot) for slot in range(server.layout.num_slots)]
        self._before = before or _nothing()
        self.num_lost: int = self._before["lost"]

    def begin_again(self, before: dict[str, Any] | None) -> None:
        """The run went back to where `state` gave `before`: what was counted since is not part of it. The dead stay counted."""
        self._before = before or _nothing()
        for at in self._slots:
            for word in (STEPS, ROWS, LOSS, LOSS_ROWS, SLOT_REFUSED, *range(SLOT_STALENESS, SLOT_STALENESS + NUM_STALENESS_BINS)):
                self._words[at + word] = 0

    @property
    def steps(self) -> int:
        """Batches that were reported in this process's time."""
        return sum(self._words[at + STEPS] for at in self._slots)

    def good(self, slot: int) -> tuple[int, int]:
        """What grows with each gradient of a worker that is not refused: steps that were not, and rows with a finite loss."""
        at = self._slots[slot]
        return self._words[at + STEPS] - self._words[at + SLOT_REFUSED], self._words[at + LOSS_ROWS]

    @property
    def rows(self) -> int:
        """Rows trained on."""
        return int(self._before["rows"]) + sum(self._words[at + ROWS] for at in self._slots)

    @property
    def loss_rows(self) -> int:
        """Rows whose loss was finite."""
        return int(self._before["loss_rows"]) + sum(self._words[at + LOSS_ROWS] for at in self._slots)

    @property
    def loss(self) -> float:
        """The sum over those rows of the loss that each had when it was trained on."""
        return float(self._before["loss"]) + sum(self._reals[at + LOSS] for at in self._slots)

    def refused(self, slot: int) -> int:
        """Gradients of one worker that were not finite, in this process's time."""
        return self._words[self._slots[slot] + SLOT_REFUSED]

    @property
    def num_refused(self) -> int:
        """Gradients that were not finite."""
        return int(self._before["refused"]) + sum(self._words[at + SLOT_REFUSED] for at in self._slots)

    @property
    def staleness(self) -> list[int]:
        """How many pushes met p after 0, 1, 2, ... others since they had pulled it; the last bin holds the rest."""
        words = self._words
        return [self._before["staleness"][n] + sum(words[at + SLOT_STALENESS + n] for at in self._slots) for n in range(NUM_STALENESS_BINS)]

    def state(self) -> dict[str, Any]:
        """The counts, for a checkpoint."""
        return {
            "rows": self.rows,
            "loss": self.loss,
            "loss_rows": self.loss_rows,
            "refused": self.num_refused,
            "lost": self.num_lost,
            "staleness": self.staleness,
        }


def _nothing() -> dict[str, Any]:
    return {"rows": 0, "loss": 0.0, "loss_rows": 0, "refused": 0, "lost": 0, "staleness": [0] * NUM_STALENESS_BINS}
