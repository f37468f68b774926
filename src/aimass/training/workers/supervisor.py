"""Keeps a run's worker processes going: starts them, notices the dead, the stopped and the late, and puts others in their place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.cluster.local import LocalCluster
from aimass.core.errors import TrainingError
from aimass.parameters.counts import STEPS
from aimass.parameters.layout import GENERATION, SLOT_STATE, STOP, WANTED
from aimass.parameters.locks import ByteLocks, WatchfulLocks
from aimass.training.events import DriverPaused, LeaseReassigned, Scaled, WorkerLeft, WorkerLost, WorkerStarted, WorkerStuck
from aimass.training.health.operations import STARTING
from aimass.training.workers import entry
from aimass.training.workers.buffers import mean_buffers, newest_integers
from aimass.training.workers.elastic import Wishes, WorkerRange
from aimass.training.workers.preload import modules_for
from aimass.training.workers.seats import Deaths, Seat, choose, standing_still
from aimass.training.workers.words import BUFFERED, LEAVE, OPERATION, SINCE_NS

if TYPE_CHECKING:
    from aimass.core.events import Event
    from aimass.parameters.shared_memory import SharedMemoryServer
    from aimass.training.leases.table import LeaseTable, Released
    from aimass.training.workers.entry import Orders

_LEAVE_S = 10.0
_ASKED = "asked"


class Supervisor:
    """The workers of one run.

    Args:
        orders: what a worker needs to know.
        descriptors: what every worker inherits: the server's block, the rows.
        server, leases: to finish and hand on what a dead worker had begun.
        folder: where each worker's output goes.
        tell: takes the events.
        wishes: where another number of workers is asked for.
    """

    def __init__(
        self,
        orders: Orders,
        descriptors: list[int],
        server: SharedMemoryServer,
        leases: LeaseTable,
        folder: Path,
        tell: Callable[[Event], object],
        wishes: Wishes,
    ) -> None:
        self.cluster = LocalCluster(modules_for(orders.config))
        self.range: WorkerRange = orders.config.worker_range
        self._seats = [Seat(slot, orders) for slot in range(self.range.most)]
        choose(self._seats, self.range.start)
        self._descriptors, self._server, self._leases, self._folder, self._tell = descriptors, server, leases, folder, tell
        self._deaths = Deaths(len(self._seats))
        self._failure: str | None = None
        self._halting = False
        self._seen_stopped_s = 0.0
        server.locks = WatchfulLocks(server.memory.descriptor, self._tend_locks)
        leases.judged_ns = lambda: int(self.cluster.time.read_at * 1e9)
        self._wishes = wishes
        self.integers: dict[str, Any] = {}
        self.num_lost = 0

    @property
    def num_alive(self) -> int:
        """How many workers run."""
        return sum(seat.process is not None for seat in self._seats)

    @property
    def are_all_there(self) -> bool:
        """Whether every worker that is wanted has started and asks for work."""
        words = self._server.words
        return all(seat.process is not None and words[self._at(seat) + OPERATION] != STARTING for seat in self._seats if seat.wanted)

    @property
    def num_wanted(self) -> int:
        """How many workers there should be."""
        return sum(seat.wanted for seat in self._seats)

    def pids(self) -> dict[int, int]:
        """The process of each worker that runs, by slot. Any thread may ask."""
        processes = [(seat.slot, seat.process) for seat in self._seats]
        return {slot: process.pid for slot, process in processes if process is not None and process.pid}

    # ------------------------------------------------------------------------------------------- start, scale and stop

    def start(self) -> None:
        """Start every worker that is wanted and does not run."""
        self._server.words[WANTED] = self.num_wanted
        for seat in self._seats:
            if seat.process is None and seat.wanted:
                self._start(seat)

    def scale(self, workers: int, reason: str = _ASKED) -> None:
        """Go on with another number of workers. Those that are too many finish their batch and give back the rest of their lease.

        Raises:
            UsageError: the run cannot have so many, or so few.
        """
        self.range.check(workers)
        before = self.num_wanted
        choose(self._seats, workers)
        for seat in self._seats:
            if seat.process is not None:
                self._server.words[self._at(seat) + LEAVE] = not seat.wanted
        if workers != before:
            self._tell(Scaled(workers=workers, before=before, reason=reason))

    def stop_all(self) -> None:
        """Kill every worker, and finish what each had begun: nobody is left who could change anything. `start` starts them again."""
        self._halting = True
        try:
            for seat in self._seats:
                if seat.process is not None:
                    self.cluster.kill(seat.process)
            while self.num_alive:
                self.tend_deaths(0.02)
        finally:
            self._halting = False

    def stop(self) -> None:
        """Let the workers finish their batch and leave, and end those that do not. STOP must be set."""
        deadline = self.cluster.time.now() + _LEAVE_S
        while self.num_alive and self.cluster.time.now() < deadline:
            self.tend_deaths(0.05)
            self._tend_locks()
        for seat in self._seats:
            if seat.process is not None:
                self.cluster.kill(seat.process)
        while self.num_alive:
            self.tend_deaths(0.05)

    def close(self) -> None:
        """End whatever is left and give the processes back."""
        self.cluster.close()
        self._server.locks = ByteLocks(self._server.memory.descriptor)  # or the two would keep each other, and the memory
        self._leases.judged_ns = time.monotonic_ns

    # ----------------------------------------------------------------------------------------------------------- tend

    def tend(self, timeout_s: float) -> None:
        """Wait for something to happen; then put right what is wrong.

        Raises:
            TrainingError: a worker failed by itself, or they die as fast as they are replaced.
        """
        self.tend_deaths(timeout_s)
        self._tend_locks()
        self._tend_late()
        self._server.words[WANTED] = self.num_wanted
        for event in self._leases.news():
            self._tell(event)
        if self._failure is not None:
            raise TrainingError(self._failure)
        wanted = self._wishes.take() if self.range.is_elastic else None
        if wanted is not None and self.range.holds(wanted):
            self.scale(wanted)
        if not self._leases.is_done:
            now = self.cluster.time.now()
            for seat in self._seats:
                if seat.process is None and seat.wanted and seat.not_before <= now:
                    self._start(seat)

    def tend_deaths(self, timeout_s: float = 0.0) -> None:
        """Finish what the dead had begun. Safe while a snapshot is being taken."""
        ended = {id(process) for process in self.cluster.poll(timeout_s)}
        for seat in self._seats:
            process = seat.process
            if process is None:
                continue
            if process.pid and not seat.announced:
                seat.announced = True
                self._tell(WorkerStarted(worker=seat.slot, pid=process.pid, replaces_dead=seat.replaces_dead))
            reason = self._listen(seat)
            if id(process) in ended:
                self._bury(seat, reason)

    def tend_pushes(self) -> None:
        """See to it that the pushes under way end, while a snapshot waits for them."""
        self.tend_deaths()
        self._tend_locks()

    def _tend_locks(self) -> None:
        """End a worker that stands still: the kernel frees its locks once it is dead, and what it had begun is finished by the next."""
        self.cluster.hear()
        now = self.cluster.time.now()
        paused_s = self.cluster.time.stopped_s - self._seen_stopped_s
        if paused_s:
            self._seen_stopped_s += paused_s
            self._leases.put_off(paused_s)
            self._tell(DriverPaused(seconds=round(paused_s, 3)))
        for seat, still_s in standing_still(self._seats, self._server, now):
            assert seat.process is not None, "only who runs can stand still"
            seat.condemned = True
            self._tell(WorkerStuck(worker=seat.slot, pid=seat.process.pid, stuck_s=round(still_s, 3)))
            self.cluster.kill(seat.process)

    def _tend_late(self) -> None:
        """Let the work of late workers go to others: take their leases, or end them, where what they hold could still be written to."""
        if not self._leases.kills_late:
            self._report_released(self._leases.revoke_late(), "late")
            return
        for slot in self._leases.late():
            seat = self._seats[slot]
            if (process := seat.process) is not None:
                seat.late = True
                self.cluster.kill(process)  # its burial gives the work back

    # ---------------------------------------------------------------------------------------------- one worker's life

    def _start(self, seat: Seat) -> None:
        server, words, at = self._server, self._server.words, self._at(seat)
        integers = newest_integers(seat.orders.integers, self.integers)
        orders = replace(seat.orders, slot=seat.slot, integers=integers)
        if server.layout.num_buffers:
            if words[at + LEAVE] or not words[at + BUFFERED]:
                mean = mean_buffers(server)
                if mean is not None:
                    server.buffers(seat.slot).copy_(mean)  # it joins with what the others have gathered
                    orders.buffers = mean
            else:
                orders.buffers = server.buffers(seat.slot).clone()  # it goes on with what the dead one had gathered
        words[at + LEAVE] = 0
        words[at + OPERATION], words[at + SINCE_NS] = STARTING, time.monotonic_ns()  # and not what the one before it did
        process = self.cluster.start(f"worker {seat.slot}", entry.main, orders, self._descriptors, self._log(seat))
        seat.begin(process, self._steps(seat), self.cluster.time.now())

    def _listen(self, seat: Seat) -> str | None:
        """Take in what a worker has said; the reason of its end, if it gave one that the run may outlive."""
        assert seat.process is not None, "only who runs can speak"
        reason = None
        for message in self.cluster.messages(seat.process):
            self.integers.update(message.get("integers", {}))
            if "failed" not in message:
                continue
            if "out_of_memory" in message:
                reason = f"out of memory: {message['out_of_memory']}"
                if self.num_wanted > self.range.least and seat.wanted:
                    self._do_without(seat, f"worker {seat.slot} was {reason}")
                    continue
                failure = f"worker {seat.slot} ran {reason}; lower batch_size, use a smaller model, or fewer workers"
            else:
                failure = f"worker {seat.slot} failed: {message['failed'].rstrip('.')}"
            self._failure = self._failure or f"{failure}; the trace is in {self._log(seat)}"
        return reason

    def _bury(self, seat: Seat, reason: str | None) -> None:
        process, words, at = seat.process, self._server.words, self._at(seat)
        assert process is not None, "only who ran can have ended"
        committed = self._leases.committed_batches
        inside = self._server.recover(seat.slot)
        released = self._leases.release(seat.slot)
        words[at + SLOT_STATE] = 0  # absent: nobody waits for it
        words[GENERATION] += 1  # whoever formed a group with it forms another
        process.connection.close()
        seat.process, seat.replaces_dead = None, process.exit_status != 0
        if self._halting:
            return
        if process.exit_status == 0 and (self._steps(seat) != seat.steps or self._may_leave(seat)):
            if words[at + LEAVE]:
                self._tell(WorkerLeft(worker=seat.slot, pid=process.pid))
            return
        if self._failure is not None:
            return
        if seat.late and reason is None:
            reason = f"killed, since a batch took it longer than lease.timeout={self._leases.timeout_s:g}"
        how = self._deaths.describe(process) if reason is None else reason
        if process.pid or "why" in process.details:
            self.num_lost += 1
            self._tell(WorkerLost(worker=seat.slot, pid=process.pid, how=how, inside_push=inside))
        self._report_released(released, f"worker {seat.slot} {how}")
        if inside and not self._server.pushes_together:
            self._count_death(seat, how, self._server.steps_before(seat.slot), committed)
        else:
            self._count_death(seat, how, self._steps(seat), self._leases.committed_batches)

    def _may_leave(self, seat: Seat) -> bool:
        """Whether there is nothing left to do for whoever has the seat."""
        words = self._server.words
        return bool(words[STOP] or words[self._at(seat) + LEAVE]) or self._leases.is_done

    def _count_death(self, seat: Seat, how: str, steps: int, committed: int) -> None:
        """See whether there is hope, for the seat and for the run. A push that was finished for the dead is nothing that it got on with.

        Args:
            seat, how: whose worker died, and how.
            steps: of the seat, and
            committed: batches of the run, without what was finished for it.
        """
        seat.count_death(steps, self.cluster.time.now())
        if seat.is_hopeless and seat.wanted and self.num_wanted > self.range.least:
            self._do_without(seat, f"worker {seat.slot} died {seat.in_vain} times before its first step, the last time {how}")
            return
        failure = self._deaths.count(committed, how, self._leases.committed_batches)
        if failure is not None:
            self._failure = f"{failure} Their output is in {self._log(seat)}"

    def _do_without(self, seat: Seat, reason: str) -> None:
        """Go on with one worker fewer."""
        before = self.num_wanted
        seat.wanted = False
        self._server.words[self._at(seat) + LEAVE] = 1
        self._tell(Scaled(workers=before - 1, before=before, reason=reason))

    def _report_released(self, released: list[Released], reason: str) -> None:
        for lease in released:
            self._tell(LeaseReassigned(lease=lease.number, epoch=lease.epoch, from_batch=lease.committed, reason=reason))

    def _steps(self, seat: Seat) -> int:
        """The batches that count as the seat's."""
        return self._server.words[self._server.counted(seat.slot) + STEPS]

    def _at(self, seat: Seat) -> int:
        """Where the seat's words begin."""
        return self._server.layout.slot(seat.slot)

    def _log(self, seat: Seat) -> Path:
        return self._folder / f"worker-{seat.slot}.log"
