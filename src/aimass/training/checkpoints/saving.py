"""What a run keeps while it trains: its state every now and then, and the model of its best epoch.

A checkpoint is taken in three steps, and only the second holds training up:

1. room   a thread takes memory for a copy, once: filling fresh pages costs many times what the copying does
2. copy   between two batches, while pushes are held back: parameters, states, clock, leases, buffers, counters, random state
3. write  the thread puts the copy on the disk

One is under way at a time, and the next is taken once it is due and the one before is on the disk. Where there is no memory for
a copy, pushes are held back while the state is written from where it lies.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aimass.core.errors import NotFound, StorageError
from aimass.core.memory import has_room
from aimass.models.devices import random_states, set_random_states
from aimass.parameters.base import Snapshot
from aimass.training.checkpoints.background import Background
from aimass.training.checkpoints.checkpoint import Best, Checkpoint, Checkpoints
from aimass.training.events import CheckpointFailed, CheckpointUnreadable, CheckpointWritten

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from aimass.core.events import Event
    from aimass.models.learner import Learner
    from aimass.parameters.shared_memory import SharedMemoryServer
    from aimass.training.config import TrainConfig


@dataclass(kw_only=True)
class _Taken:
    """What is to be written, and what it was to take it."""

    checkpoint: Checkpoint
    best: Best | None
    began: float
    paused_s: float = 0.0


class Saver:
    """Writes a run's checkpoints, and knows the newest and the best.

    Args:
        config: the run's settings.
        folder: where the checkpoints lie.
        learner: the driver's.
        tell: takes the events.

    Attributes:
        best: the best epoch so far.
        due: when the next checkpoint shall be taken (`time.monotonic`).
    """

    def __init__(self, config: TrainConfig, folder: Path, learner: Learner, tell: Callable[[Event], object]) -> None:
        self._config, self._learner, self._tell = config, learner, tell
        self._checkpoints = Checkpoints(folder, config.checkpoint.keep)
        self._thread = Background("checkpoints")
        self._room: Snapshot | None = None
        self._asked_for_room: Future[Snapshot | None] | None = None
        self._taken: _Taken | None = None
        self._write_under_way: Future[str] | None = None
        self._best_on_disk: Best | None = None
        self._is_failing = False
        self.due = time.monotonic() + config.checkpoint.every
        self.best: Best | None = None

    # ------------------------------------------------------------------------------------------------------- reading

    def read_newest(self) -> Checkpoint:
        """The newest checkpoint that can be read, and what was the best epoch then.

        Raises:
            NotFound: there is none.
        """
        self._land()
        checkpoint, unreadable = self._checkpoints.read_newest(self._learner.manifest)
        for name, reason in unreadable:
            self._tell(CheckpointUnreadable(name=name, reason=reason))
        self.best = self._best_on_disk = self._checkpoints.read_best(self._learner.manifest)
        return checkpoint

    def last(self, below: int | None = None) -> Checkpoint | None:
        """The newest checkpoint that can be read, to go back to: the one that is being written, once it is on the disk, or an older one.

        None where there is none: `opening.first_state` gives the start.

        Args:
            below: a step: only checkpoints before it will do.
        """
        self._land()
        try:
            return self._checkpoints.read_newest(self._learner.manifest, below)[0]
        except NotFound:
            return None

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of later steps: the run has gone back, and they are of no part of it any more."""
        self._checkpoints.remove_after(step)

    def restore(self, checkpoint: Checkpoint, server: SharedMemoryServer) -> None:
        """Put a checkpoint's state into the server and the driver's module; with `workers=0` torch's random states too."""
        server.restore(checkpoint.snapshot)
        self._learner.set_float_buffers(checkpoint.floats)
        self._learner.set_integer_buffers(checkpoint.integers)
        if checkpoint.random and not self._config.workers:
            set_random_states(checkpoint.random, self._learner.device)

    # ------------------------------------------------------------------------------------------------------- writing

    def note_best(self, epoch: dict[str, Any]) -> None:
        """Keep the learner's model as that of the best epoch so far.

        Args:
            epoch: what `EpochEnded` said of it.
        """
        learner, old = self._learner, self.best
        if old is None or (self._taken is not None and self._taken.best is old):
            parameters = learner.parameters.clone()
        else:
            parameters = old.parameters.copy_(learner.parameters)
        self.best = Best(parameters=parameters, floats=learner.float_buffers(), integers=learner.integer_buffers(), epoch=epoch)

    def bring_back_best(self) -> None:
        """Put the model of the best epoch into the learner, if there was one."""
        if self.best is not None:
            self._learner.parameters.copy_(self.best.parameters)
            self._learner.set_float_buffers(self.best.floats)
            self._learner.set_integer_buffers(self.best.integers)

    def tend(
        self,
        server: SharedMemoryServer,
        state: Callable[[], dict[str, Any]],
        tend: Callable[[], None] | None = None,
        *,
        may_take: bool = True,
    ) -> None:
        """Take the next checkpoint if it is due, and tell what became of the one before. Training waits for the copy alone.

        Args:
            server: whose parameters, clock and leases are kept.
            state: gives what the trainer keeps besides, and brings the module's buffers up to date first. Pushes are held back
                meanwhile, so it may not pull.
            tend: called while pushes under way are waited for.
            may_take: whether the present state is one to go back to.
        """
        if self._write_under_way is not None and self._write_under_way.done():
            self._land()
        if self._write_under_way is not None or not may_take or time.monotonic() < self.due:
            return
        if self._room is None:
            if self._asked_for_room is None:
                self._asked_for_room = self._thread.do(partial(_room_for, server.layout.num_parameters, server.layout.states))
            if not self._asked_for_room.done():
                return
            self._room, self._asked_for_room = self._asked_for_room.result(), None
        self.due = time.monotonic() + self._config.checkpoint.every
        if self._room is not None:
            taken = self._take(server, state, tend)
            self._taken, self._write_under_way = taken, self._thread.do(partial(self._write, taken))
            return
        try:
            self._take_in_place(server, state, tend)
        except StorageError as error:
            self._fail(server.clock, error)

    def save(self, server: SharedMemoryServer, state: Callable[[], dict[str, Any]]) -> None:
        """Write the present state from where it lies, after what is being written: for when nothing trains. It is on the disk then.

        Args:
            server: as for `tend`.
            state: as for `tend`.

        Raises:
            StorageError: the disk is full or broken; what was there stays.
        """
        self._land()
        self._take_in_place(server, state, None)
        self.due = time.monotonic() + self._config.checkpoint.every

    def close(self) -> None:
        """Wait for what is being written, and give the memory back."""
        try:
            self._land()
        finally:
            self._thread.close()
            self._room = None

    def _take(self, server: SharedMemoryServer, state: Callable[[], dict[str, Any]], tend: Callable[[], None] | None) -> _Taken:
        began = time.monotonic()
        with server.paused(tend) as moment:
            self._room = moment.copy(self._room)
            checkpoint = self._describe(self._room, state)
        return _Taken(checkpoint=checkpoint, best=self.best, began=began, paused_s=time.monotonic() - began)

    def _take_in_place(self, server: SharedMemoryServer, state: Callable[[], dict[str, Any]], tend: Callable[[], None] | None) -> None:
        began = time.monotonic()
        with server.paused(tend) as moment:
            taken = _Taken(checkpoint=self._describe(moment, state), best=self.best, began=began)
            name = self._write(taken)
        taken.paused_s = time.monotonic() - began
        self._tell_written(taken, name)

    def _describe(self, snapshot: Snapshot, state: Callable[[], dict[str, Any]]) -> Checkpoint:
        trainer = state()
        return Checkpoint(
            snapshot=snapshot,
            floats=self._learner.float_buffers(),
            integers=self._learner.integer_buffers(),
            state=trainer,
            random={} if self._config.workers else random_states(self._learner.device),
        )

    def _write(self, taken: _Taken) -> str:
        """The best epoch of its moment, where that is newer than the one on disk; and then the checkpoint, which tells of it: whoever is
        killed in between leaves no checkpoint that knows of a best epoch whose model is nowhere."""
        if taken.best is not None and taken.best is not self._best_on_disk:
            self._checkpoints.write_best(taken.best, self._learner.manifest)
            self._best_on_disk = taken.best
        return self._checkpoints.write(taken.checkpoint, self._learner.manifest)

    def _land(self) -> None:
        """Wait for the write that is under way, and tell what became of it."""
        write, taken = self._write_under_way, self._taken
        if write is None or taken is None:
            return
        try:
            name = write.result()
        except StorageError as error:
            self._fail(taken.checkpoint.snapshot.clock, error)
        else:
            self._tell_written(taken, name)
        finally:
            self._write_under_way = self._taken = None

    def _tell_written(self, taken: _Taken, name: str) -> None:
        self._is_failing = False
        took_s = time.monotonic() - taken.began
        self._tell(
            CheckpointWritten(step=taken.checkpoint.snapshot.clock, name=name, paused_s=round(taken.paused_s, 4), took_s=round(took_s, 4))
        )

    def _fail(self, step: int, error: StorageError) -> None:
        if not self._is_failing:
            self._is_failing = True
            self._tell(CheckpointFailed(step=step, message=str(error)))


def _room_for(num_parameters: int, states: tuple[str, ...]) -> Snapshot | None:
    """Memory for a copy, every page of it in hand. None where it does not fit."""
    if not has_room(4 * num_parameters * (1 + len(states))):
        return None
    try:
        vectors = [np.empty(num_parameters, np.float32) for _ in range(1 + len(states))]
    except MemoryError:
        return None
    for vector in vectors:
        vector.fill(0.0)
    parameters, *rest = map(torch.from_numpy, vectors)
    return Snapshot(parameters=parameters, states=dict(zip(states, rest, strict=True)))
