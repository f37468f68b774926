"""Keeps a run's worker processes going: starts them, notices the dead, the stopped and the late, and puts others in their place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.cluster.local import LocalCluster
from aimass.core.errors import TrainingError
from aimass.parameters.layout import GENERATION, SLOT_STATE
from aimass.parameters.locks import ByteLocks, WatchfulLocks
from aimass.training import worker
from aimass.training.events import LeaseReassigned, WorkerLost, WorkerStarted, WorkerStuck
from aimass.training.preload import PRELOAD

if TYPE_CHECKING:
    from aimass.cluster.base import Process
    from aimass.core.events import Event
    from aimass.parameters.shared_memory import SharedMemoryServer
    from aimass.training.leases import LeaseTable, Released
    from aimass.training.worker import Orders

_STOPPED_S = 2.0  # a worker that was stopped (SIGSTOP)
_STUCK_S = 10.0  # a push that runs and does not get on
_LEAVE_S = 10.0


@dataclass
class _Seat:
    """A slot, and who has it."""

    orders: Orders
    process: Process | None = None
    announced: bool = False
    replaces_dead: bool = False
    condemned: bool = False
    ran: float = 0.0  # when it was last seen not to be stopped
    progress: tuple[int, ...] = ()
    moved: float = 0.0  # when its push was last seen to get on


class Supervisor:
    """The workers of one run.

    Args:
        orders: for each slot, what its worker needs to know.
        descriptors: what every worker inherits: the server's block, the rows.
        server, leases: to finish and hand on what a dead worker had begun.
        folder: where each worker's output goes.
        tell: takes the events.
    """

    def __init__(
        self,
        orders: list[Orders],
        descriptors: list[int],
        server: SharedMemoryServer,
        leases: LeaseTable,
        folder: Path,
        tell: Callable[[Event], object],
    ) -> None:
        self.cluster = LocalCluster(PRELOAD)
        self._seats = [_Seat(order) for order in orders]
        self._descriptors, self._server, self._leases, self._folder, self._tell = descriptors, server, leases, folder, tell
        self._deaths_in_vain = 0
        self._committed_at_death = -1
        self._failure: str | None = None
        self._halting = False
        server.locks = WatchfulLocks(server.memory.descriptor, self._kill_stopped)
        self.integers: dict[str, Any] = {}
        self.num_lost = 0

    @property
    def num_alive(self) -> int:
        """How many workers run."""
        return sum(seat.process is not None for seat in self._seats)

    def start(self) -> None:
        """Start every worker that does not run."""
        for slot, seat in enumerate(self._seats):
            if seat.process is None:
                self._start(slot)

    def stop_all(self) -> None:
        """Kill every worker, and finish what each had begun: nobody is left who could change anything. `start` starts them again."""
        self._halting = True
        try:
            while self.num_alive:
                for seat in self._seats:
                    if seat.process is not None:
                        self.cluster.kill(seat.process)  # again and again: one that was just started has no pid yet
                self.tend_deaths(0.02)
        finally:
            self._halting = False

    def tend(self, timeout_s: float) -> None:
        """Wait for something to happen; then put right what is wrong.

        Raises:
            TrainingError: a worker failed by itself, or they die as fast as they are replaced.
        """
        self.tend_deaths(timeout_s)
        self._kill_stopped()
        self._tend_late()
        if self._failure is not None:
            raise TrainingError(self._failure)
        for slot, seat in enumerate(self._seats):
            if seat.process is None and not self._leases.is_done:
                self._check_for_progress(slot)
                seat.replaces_dead = True
                self._start(slot)

    def tend_deaths(self, timeout_s: float = 0.0) -> None:
        """Finish what the dead had begun. Safe while a snapshot is being taken."""
        ended = self.cluster.poll(timeout_s)
        for slot, seat in enumerate(self._seats):
            if seat.process is None:
                continue
            if seat.process.pid and not seat.announced:
                seat.announced = True
                self._tell(WorkerStarted(worker=slot, pid=seat.process.pid, replaces_dead=seat.replaces_dead))
            self._listen(slot, seat.process)
            if any(process is seat.process for process in ended):
                self._bury(slot, seat.process)

    def tend_pushes(self) -> None:
        """See to it that the pushes under way end, while a snapshot waits for them."""
        self.tend_deaths()
        self._kill_stopped()

    def stop(self) -> None:
        """Let the workers finish their batch and leave, and end those that do not. STOP must be set."""
        deadline = time.monotonic() + _LEAVE_S
        while self.num_alive and time.monotonic() < deadline:
            self.tend_deaths(0.05)
            self._kill_stopped()
        for seat in self._seats:
            if seat.process is not None:
                self.cluster.kill(seat.process)
        while self.num_alive:
            self.tend_deaths(0.05)

    def close(self) -> None:
        """End whatever is left and give the processes back."""
        self.cluster.close()
        self._server.locks = ByteLocks(self._server.memory.descriptor)  # or the two would keep each other, and the memory

    def _start(self, slot: int) -> None:
        seat = self._seats[slot]
        seat.announced, seat.condemned, seat.progress = False, False, ()
        seat.ran = seat.moved = time.monotonic()
        log = self._folder / f"worker-{slot}.log"
        orders = replace(seat.orders, slot=slot)
        if self._server.layout.num_buffers and self._server.words[self._server.layout.slot(slot) + worker.BUFFERED]:
            orders = replace(orders, buffers=self._server.buffers(slot).clone())  # it goes on with what the dead one had gathered
        seat.process = self.cluster.start(f"worker {slot}", worker.main, orders, self._descriptors, log)

    def _listen(self, slot: int, process: Process) -> None:
        for message in self.cluster.messages(process):
            self.integers.update(message.get("integers", {}))
            if "failed" in message and self._failure is None:
                log = self._folder / f"worker-{slot}.log"
                self._failure = f"worker {slot} failed: {message['failed'].rstrip('.')}; the trace is in {log}"

    def _tend_late(self) -> None:
        """Let the work of late workers go to others: take their leases, or end them, where what they hold could still be written to."""
        if not self._leases.kills_late:
            self._report_released(self._leases.revoke_late(), "late")
            return
        for slot in self._leases.late():
            process = self._seats[slot].process
            if process is not None:
                self.cluster.kill(process)  # its burial gives the work back

    def _bury(self, slot: int, process: Process) -> None:
        inside = self._server.recover(slot)
        released = self._leases.release(slot)
        words = self._server.words
        words[self._server.layout.slot(slot) + SLOT_STATE] = 0  # absent: nobody waits for it
        words[GENERATION] += 1  # whoever formed a group with it forms another
        process.connection.close()
        self._seats[slot].process = None
        if self._halting:
            return
        if process.exit_status != 0 and self._failure is None:
            self.num_lost += 1
            self._tell(WorkerLost(worker=slot, pid=process.pid, how=process.describe_exit(), inside_push=inside))
        if process.exit_status != 0:
            self._report_released(released, f"worker {slot} {process.describe_exit()}")

    def _report_released(self, released: list[Released], reason: str) -> None:
        for lease in released:
            self._tell(LeaseReassigned(lease=lease.number, epoch=lease.epoch, from_batch=lease.committed, reason=reason))

    def _check_for_progress(self, slot: int) -> None:
        committed = self._leases.committed_batches
        self._deaths_in_vain = self._deaths_in_vain + 1 if committed == self._committed_at_death else 0
        self._committed_at_death = committed
        if self._deaths_in_vain > 3 * len(self._seats) + 3:
            raise TrainingError(
                f"workers have died {self._deaths_in_vain} times without finishing a batch; is there enough memory? "
                f"Their output is in {self._folder / f'worker-{slot}.log'}"
            )

    def _kill_stopped(self) -> None:
        """End a worker that was stopped, or that stands still inside a push: it holds up every other, or would come back late.

        The kernel frees its locks once it is dead, and what it had begun is finished by the next. Nothing here takes a lock.
        """
        self.cluster.hear()
        now = time.monotonic()
        for slot, seat in enumerate(self._seats):
            process = seat.process
            if process is None or not process.pid or seat.condemned:
                continue
            if not _is_stopped(process.pid):
                seat.ran = now
            progress = self._server.progress(slot) if self._server.is_pushing(slot) else ()
            if progress != seat.progress or not progress:
                seat.progress, seat.moved = progress, now
            still_s = now - seat.ran if now - seat.ran > _STOPPED_S else now - seat.moved
            if now - seat.ran > _STOPPED_S or now - seat.moved > _STUCK_S:
                seat.condemned = True
                self._tell(WorkerStuck(worker=slot, pid=process.pid, stuck_s=round(still_s, 3)))
                self.cluster.kill(process)


def _is_stopped(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in "Tt"
