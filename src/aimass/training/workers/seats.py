"""The seats of a run: who has which slot, who is wanted in it, who stands still there, and how those who had it died."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aimass.cluster.alive import is_stopped
from aimass.core.full_memory import num_oom_kills

if TYPE_CHECKING:
    from aimass.cluster.base import Process
    from aimass.parameters.shared_memory import SharedMemoryServer
    from aimass.training.workers.entry import Orders

_STOPPED_S = 2.0  # a worker that was stopped (SIGSTOP)
_STUCK_S = 10.0  # a push that runs and does not get on
_PATIENCE = 3
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 1.0


@dataclass
class Seat:
    """A slot, and who has it. Times are those of the driver's own clock."""

    slot: int
    orders: Orders
    process: Process | None = None
    wanted: bool = True
    announced: bool = False
    replaces_dead: bool = False
    condemned: bool = False
    late: bool = False  # killed, since it took too long for a batch
    ran: float = 0.0  # when it was last seen not to be stopped
    progress: tuple[int, ...] = ()
    moved: float = 0.0  # when its push was last seen to get on
    steps: int = 0  # of this slot when its worker began
    in_vain: int = 0  # deaths in a row without a step
    not_before: float = 0.0

    def begin(self, process: Process, steps: int, now: float) -> None:
        """A worker takes the seat."""
        self.process, self.steps = process, steps
        self.announced, self.condemned, self.late, self.progress = False, False, False, ()
        self.ran = self.moved = now

    def count_death(self, steps: int, now: float) -> None:
        """Remember a death. One that dies again and again before its first step is waited for longer and longer.

        Args:
            steps: of this slot, less one at which the worker died: others have finished that.
            now: by the driver's own clock.
        """
        self.in_vain = self.in_vain + 1 if steps == self.steps else 0
        excess = self.in_vain - _PATIENCE
        self.not_before = now + min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**excess) if excess >= 0 else now

    @property
    def is_hopeless(self) -> bool:
        """Whether its workers die before they have done anything."""
        return self.in_vain >= _PATIENCE


class Deaths:
    """What ended the workers of a run, and whether there is hope.

    Args:
        num_seats: of the run; each may lose some workers in vain.
    """

    def __init__(self, num_seats: int) -> None:
        self._most_in_vain = 3 * num_seats + 3
        self._in_vain, self._committed, self._oom_kills = 0, -1, num_oom_kills()

    def describe(self, process: Process) -> str:
        """How a worker ended, for a person."""
        how = process.describe_exit()
        if process.exit_status != -signal.SIGKILL:
            return how
        before, self._oom_kills = self._oom_kills, num_oom_kills()
        return f"{how}, as the memory was full" if self._oom_kills > before else how

    def count(self, committed: int, how: str, finished: int | None = None) -> str | None:
        """Count one more death; a sentence, where they die as fast as they come.

        Args:
            committed: batches of the run so far.
            how: it ended.
            finished: the same, with the batch inside which the worker died, once that is finished for it.
        """
        self._in_vain = self._in_vain + 1 if committed == self._committed else 0
        self._committed = committed if finished is None else finished
        if self._in_vain <= self._most_in_vain:
            return None
        return f"workers have died {self._in_vain} times without finishing a batch, the last one {how}; is there enough memory?"


def choose(seats: Sequence[Seat], wanted: int) -> None:
    """Say who is wanted, for a number of workers: those that run before those that do not, and low slots before high ones."""
    order = sorted(seats, key=lambda seat: (seat.process is None, not seat.wanted, seat.slot))
    for place, seat in enumerate(order):
        if place < wanted and not seat.wanted:
            seat.in_vain, seat.not_before = 0, 0.0
        seat.wanted = place < wanted


def standing_still(seats: Sequence[Seat], server: SharedMemoryServer, now: float) -> Iterator[tuple[Seat, float]]:
    """The workers that were stopped, or that stand still inside a push, and for how long: they hold up every other, or would come
    back late. Nothing here takes a lock.

    Args:
        seats: of the run.
        server: whose words tell how a push gets on.
        now: by the driver's own clock.
    """
    for seat in seats:
        if seat.process is None or not seat.process.pid or seat.condemned:
            continue
        if not is_stopped(seat.process.pid):
            seat.ran = now
        progress = server.progress(seat.slot) if server.is_pushing(seat.slot) else ()
        if progress != seat.progress or not progress:
            seat.progress, seat.moved = progress, now
        if now - seat.ran > _STOPPED_S:
            yield seat, now - seat.ran
        elif now - seat.moved > _STUCK_S:
            yield seat, now - seat.moved
