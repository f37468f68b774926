"""The thread that looks at the processes of a run while they train: it names who stalls, and samples what each does.

It only reads: words of the block, /proc, logs. It takes no lock of the block, because locks belong to the process, and a second thread
that took one would give it back for the first.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.cluster.alive import is_stopped
from aimass.parameters.counts import LOSS, LOSS_WEIGHT, ROWS
from aimass.training.events import WorkerRecovered, WorkersSampled, WorkerStalled
from aimass.training.health.operations import AWAITS_OTHERS, NAMES, STARTING
from aimass.training.health.sampling import Sampler
from aimass.training.health.stalls import Still, Watched, ask_for_stack, culprits, place_of, stack_of
from aimass.training.workers.words import OPERATION, SINCE_NS

if TYPE_CHECKING:
    from aimass.core.events import Event
    from aimass.parameters.shared_memory import SharedMemoryServer
    from aimass.training.health.config import HealthConfig

_LOOK_S = 0.25
_FIRST_SAMPLE_S = 1.0
_SAMPLES_AT_A_PACE = 720  # an hour of them; then half as often, so that a run of any length keeps few thousand


class Watch:
    """Watches one run. What goes wrong in the thread is raised by the next `check`.

    Args:
        config: how long is too long, and how often to sample.
        server: whose slots tell what each worker does.
        pids: gives the process of each worker that runs, by slot; with `workers=0` none.
        logs: the folder of the workers' output.
        tell: takes the events; it is called from this thread.
    """

    def __init__(
        self,
        config: HealthConfig,
        server: SharedMemoryServer,
        pids: Callable[[], Mapping[int, int]],
        logs: Path,
        tell: Callable[[Event], object],
    ) -> None:
        self._config, self._server, self._pids, self._logs, self._tell = config, server, pids, logs, tell
        self._driver, self._trains_here = threading.get_ident(), True
        self._watched: dict[tuple[int | None, int], Watched] = {}
        self._doing = (STARTING, time.monotonic_ns())
        self._sampler = Sampler()
        self._num_samples = 0
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="aimass health", daemon=True)

    def start(self, *, trains_here: bool) -> None:
        """Begin to watch. The caller is the thread that trains, or that drives the workers."""
        self._driver, self._trains_here = threading.get_ident(), trains_here
        with suppress(RuntimeError):  # an interpreter that is about to leave starts no threads, and still finishes its runs
            self._thread.start()

    def driver_does(self, operation: int) -> None:
        """Note what the run's own thread does from now on. It has to call this often."""
        self._doing = (operation, time.monotonic_ns())

    def check(self) -> None:
        """Raise what ended the thread before its time."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread. Nothing is told after that."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            pause_s = min(_LOOK_S, self._config.stall / 4, self._config.sample_every / 4)
            sample_at = time.monotonic() + min(_FIRST_SAMPLE_S, self._config.sample_every)
            self._see_all()
            while not self._stop.wait(pause_s):
                self._look()
                if time.monotonic() >= sample_at:
                    sample_at = time.monotonic() + self._config.sample_every * 2 ** (self._num_samples // _SAMPLES_AT_A_PACE)
                    self._num_samples += 1
                    self._sample()
        except BaseException as error:  # noqa: BLE001 - it is raised again by check()
            self._error = error

    # ----------------------------------------------------------------------------------------------------------- stalls

    def _look(self) -> None:
        seen = self._see_all()
        still, moving = [], 0
        for (worker, pid), watched in seen.items():
            stopped = worker is not None and is_stopped(pid)
            if watched.still_s() < (self._config.stall if stopped else watched.limit_s):
                moving += watched.operation not in AWAITS_OTHERS
            elif not watched.is_named:
                holds = worker is not None and self._server.is_pushing(worker)
                still.append(
                    Still(
                        worker=worker,
                        pid=pid,
                        operation=watched.operation,
                        still_s=watched.still_s(),
                        is_stopped=stopped,
                        holds_lock=holds,
                    )
                )
        named = [key for key, watched in seen.items() if watched.is_named]
        for one in culprits(still, moving + len(named)):
            self._name(one, seen[one.worker, one.pid])

    def _see_all(self) -> dict[tuple[int | None, int], Watched]:
        """Every process of the run as it is now. The run's own counts as one that trains, or as one of which others may wait."""
        words, layout = self._server.words, self._server.layout
        doing: dict[tuple[int | None, int], tuple[int, int]] = {}
        if self._trains_here and words[layout.slot(0) + SINCE_NS] > self._doing[1]:
            doing[None, os.getpid()] = words[layout.slot(0) + OPERATION], words[layout.slot(0) + SINCE_NS]
        else:
            doing[None, os.getpid()] = self._doing
        for slot, pid in self._pids().items():
            doing[slot, pid] = words[layout.slot(slot) + OPERATION], words[layout.slot(slot) + SINCE_NS]
        for worker, pid in doing.keys() - self._watched.keys():
            self._sampler.see(worker, pid, self._counted(worker))
        self._watched = {key: self._watched.get(key) or Watched(self._config.stall) for key in doing}
        for (worker, pid), watched in self._watched.items():
            took_s = watched.see(*doing[worker, pid])
            if took_s is not None and watched.is_named:
                watched.is_named = False
                self._tell(WorkerRecovered(worker=worker, pid=pid, after_s=round(took_s, 3)))
        return self._watched

    def _name(self, one: Still, watched: Watched) -> None:
        if one.is_stopped:
            stack = None
        elif one.worker is None:
            frame = sys._current_frames().get(self._driver)
            stack = None if frame is None else stack_of(frame)
        else:
            stack = ask_for_stack(one.pid, self._logs / f"worker-{one.worker}.log")
        watched.is_named = True
        self._tell(
            WorkerStalled(
                worker=one.worker,
                pid=one.pid,
                operation=NAMES[one.operation],
                still_s=round(one.still_s, 3),
                is_stopped=one.is_stopped,
                place=place_of(stack),
                stack=stack,
            )
        )

    # ---------------------------------------------------------------------------------------------------------- samples

    def _sample(self) -> None:
        pids = dict(self._pids())
        driver = self._sampler.see(None, os.getpid(), self._counted(None))
        workers = []
        for slot, pid in sorted(pids.items()):
            sample = self._sampler.see(slot, pid, self._counted(slot))
            if sample is not None:
                operation = self._server.words[self._server.layout.slot(slot) + OPERATION]
                workers.append({"worker": slot, **sample, "operation": NAMES[operation]})
        if driver is not None:
            self._tell(WorkersSampled(driver=driver, workers=workers))

    def _counted(self, worker: int | None) -> tuple[int, float, float] | None:
        """Rows, loss and its weight of one process. The run's own trains only where there are no workers."""
        if worker is None and not self._trains_here:
            return None
        at, reals = self._server.counted(worker or 0), self._server.reals
        return self._server.words[at + ROWS], reals[at + LOSS], reals[at + LOSS_WEIGHT]
