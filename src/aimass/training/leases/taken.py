"""Who took which lease: a record in the shared block, where leases are the tasks that a strategy hands out.

It is written when a lease is taken, under the lock or by the only one who may take it, so that it is there whatever becomes of the
worker. The records of two epochs lie side by side, because workers may begin one before the other has been looked at.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aimass.parameters.layout import TASK_LEASE, TASK_TIMES, TASK_WORKER
from aimass.training.events import TasksDone

if TYPE_CHECKING:
    from aimass.parameters.shared_memory import SharedMemoryServer

_MOST_LISTED = 1000


class TakenRecord:
    """Notes who takes a lease, and tells it.

    Args:
        server: whose layout has room for `num_tasks` records.
    """

    def __init__(self, server: SharedMemoryServer) -> None:
        self._words, self._layout = server.words, server.layout

    def note(self, lease: int, slot: int) -> None:
        """A worker takes a lease, perhaps after others."""
        words, at = self._words, self._layout.task(lease)
        words[at + TASK_TIMES] = words[at + TASK_TIMES] + 1 if words[at + TASK_LEASE] == lease + 1 else 1
        words[at + TASK_WORKER] = slot
        words[at + TASK_LEASE] = lease + 1

    def tell(self, epoch: int) -> TasksDone:
        """Who had the leases of an epoch last, which is who did them once the epoch is over.

        Args:
            epoch: counted from 1, of the last two that were begun.
        """
        words, size = self._words, self._layout.num_tasks
        records = {lease: self._layout.task(lease) for lease in range((epoch - 1) * size, epoch * size)}
        taken = {lease: at for lease, at in records.items() if words[at + TASK_LEASE] == lease + 1}
        counts = Counter(str(words[at + TASK_WORKER]) for at in taken.values())
        tasks: dict[str, list[int]] = {worker: [] for worker in sorted(counts)}
        for lease, at in taken.items() if len(taken) <= _MOST_LISTED else ():
            tasks[str(words[at + TASK_WORKER])].append(lease)
        again = {str(lease): words[at + TASK_TIMES] - 1 for lease, at in taken.items() if words[at + TASK_TIMES] > 1}
        return TasksDone(
            epoch=epoch, counts=dict(sorted(counts.items())), tasks=tasks if len(taken) <= _MOST_LISTED else {}, taken_again=again
        )
