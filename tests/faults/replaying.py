"""Workers that are killed inside late pushes, which leave a record of what every push was made of and in which order shards met them.

A record is written before what it tells of counts, so that a push which another process finishes has one too.
"""

import mmap
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
from faults import killing

from aimass.parameters.layout import AT_WORK, JOINING, LEASE_LOCK, SHARD_CLOCK, SLOT_CLOCK, SLOT_FREE, SLOT_SEQUENCE, SLOT_STATE
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.training import planes

MOST_PUSHES = 6000  # of one worker, and of all
WORST_LEAD = SLOT_FREE + 20  # one more than the largest lead that was seen when a step had been let go on
STOPS = SLOT_FREE + 21  # whether the worker has stood still
NUM_WORKERS = 3


class Record:
    """A file that all processes map: for each push its staleness, its gradient and what its worker had pulled; for each shard the order."""

    def __init__(self, path, length, num_shards):
        sizes = [NUM_WORKERS * MOST_PUSHES, 2 * NUM_WORKERS * MOST_PUSHES * length, num_shards * MOST_PUSHES]
        self.path, self.shape = path, (length, num_shards)
        with Path(path).open("a+b") as file:
            file.truncate(8 * sizes[0] + 4 * sizes[1] + 8 * sizes[2])
            view = memoryview(mmap.mmap(file.fileno(), 0))
        self.tau = np.frombuffer(view, np.int64, sizes[0]).reshape(NUM_WORKERS, MOST_PUSHES)
        vectors = np.frombuffer(view, np.float32, sizes[1], 8 * sizes[0])
        self.gradient, self.pulled = vectors.reshape(2, NUM_WORKERS, MOST_PUSHES, length)
        self.order = np.frombuffer(view, np.int64, sizes[2], 8 * sizes[0] + 4 * sizes[1]).reshape(num_shards, MOST_PUSHES)


class Recording(SharedMemoryServer):
    """Writes the record. The driver's, and the base of the workers'."""

    record = None

    def _admit(self, slot, ticket, staleness):
        number = self.words[self.layout.slot(slot) + SLOT_SEQUENCE] + 1
        self.record.tau[slot, number] = staleness
        self.record.gradient[slot, number] = self.gradients[slot].numpy()
        self.record.pulled[slot, number] = self.pulled.numpy()
        return super()._admit(slot, ticket, staleness)

    def _apply(self, shard, slot):
        sequence = self.words[self.layout.slot(slot) + SLOT_SEQUENCE]
        self.record.order[shard.index, self.words[shard.words + SHARD_CLOCK]] = slot * MOST_PUSHES + sequence
        super()._apply(shard, slot)


class KillingRecording(killing.KillingServer, Recording):
    """A worker's: its update is the run's own, and dies before or after any of its chunks."""

    points = ("in first", "before shard", "between shards", "before commit", "after commit", "anywhere")

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        apply = self.update.apply

        def apply_and_perhaps_die(p, gradient, states, *rest):
            half = len(p) // 2 // 16 * 16
            apply(p[:half], gradient[:half], [state[:half] for state in states], *rest)
            self.reached("in first")
            apply(p[half:], gradient[half:], [state[half:] for state in states], *rest)

        self.update.apply = apply_and_perhaps_die


def main(path, length, num_shards, context):
    """A worker's entry: real gradients, a real optimizer, kills inside."""
    KillingRecording.record = Record(path, length, num_shards)
    planes.SharedMemoryServer, planes.LeaseTable = KillingRecording, killing.KillingTable
    killing.worker_main(context)


def entry(record):
    """The entry of workers that write to a record."""
    return partial(main, str(record.path), *record.shape)


class WatchedPace(planes.Pace):
    """Looks, each time that a step was let go on, how far ahead its worker really is."""

    def begin(self, goes_on):
        may = super().begin(goes_on)
        server = self._server
        words, layout = server.words, server.layout
        slots = [layout.slot(slot) for slot in range(layout.num_slots)]
        slowest = min((words[at + SLOT_CLOCK] for at in slots if words[at + SLOT_STATE] == AT_WORK), default=None)
        if may and slowest is not None:
            own = layout.slot(server.slot)
            words[own + WORST_LEAD] = max(words[own + WORST_LEAD], words[own + SLOT_CLOCK] - slowest + 1)
        return may


def watched(context):
    """An entry as `killing.main`, with an eye on the leads."""
    planes.Pace = WatchedPace
    killing.main(context)


class StoppingPace(WatchedPace):
    """Worker 0 stands still once: inside a step, when some are done."""

    def begin(self, goes_on):
        may = super().begin(goes_on)
        if self._words[self._at + SLOT_CLOCK] >= 4:  # one that comes late begins with the clock of the others
            self.stand_still()
        return may

    def stand_still(self):
        server, own = self._server, self._at
        if server.slot == 0 and not server.words[own + STOPS]:
            server.words[own + STOPS] = 1
            os.kill(os.getpid(), signal.SIGSTOP)


class StoppingJoin(StoppingPace):
    """Worker 0 stands still while it comes in, when nobody may begin, and holds the lock of those who do."""

    def begin(self, goes_on):
        return WatchedPace.begin(self, goes_on)

    def _join(self):
        self._words[self._at + SLOT_STATE] = JOINING
        with self._server.locks.held(LEASE_LOCK):
            self.stand_still()
        super()._join()


def stop_in_step(context):
    """An entry whose worker 0 stands still while the others come to wait for it."""
    planes.Pace = StoppingPace
    killing.main(context)


def stop_in_join(context):
    """An entry whose worker 0 stands still while the others may not begin."""
    planes.Pace = StoppingJoin
    killing.main(context)
