"""What a run keeps while it trains: its state every now and then, and the model of its best epoch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aimass.core.errors import NotFound
from aimass.models.devices import random_states, set_random_states
from aimass.training.checkpoint import Best, Checkpoint, Checkpoints
from aimass.training.events import CheckpointUnreadable, CheckpointWritten

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aimass.core.events import Event
    from aimass.models.learner import Learner
    from aimass.parameters.shared_memory import SharedMemoryServer
    from aimass.training.config import TrainConfig


class Saver:
    """Writes a run's checkpoints, and knows the newest and the best.

    Args:
        config: the run's settings.
        folder: where the checkpoints lie.
        learner: the driver's.
        tell: takes the events.

    Attributes:
        best: the best epoch so far.
    """

    def __init__(self, config: TrainConfig, folder: Path, learner: Learner, tell: Callable[[Event], object]) -> None:
        self._config, self._learner, self._tell = config, learner, tell
        self._checkpoints = Checkpoints(folder, config.checkpoint.keep)
        self._best_is_saved = True
        self._saved = time.monotonic()
        self.best: Best | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._saved >= self._config.checkpoint.every

    def read_newest(self) -> Checkpoint:
        """The newest checkpoint that can be read, and what was the best epoch then.

        Raises:
            NotFound: there is none.
        """
        checkpoint, unreadable = self._checkpoints.read_newest(self._learner.manifest)
        for name, reason in unreadable:
            self._tell(CheckpointUnreadable(name=name, reason=reason))
        self.best = self._checkpoints.read_best(self._learner.manifest)
        return checkpoint

    def last(self) -> Checkpoint | None:
        """The newest checkpoint that can be read, to go back to. None where there is none: `opening.first_state` gives the start."""
        try:
            return self._checkpoints.read_newest(self._learner.manifest)[0]
        except NotFound:
            return None

    def restore(self, checkpoint: Checkpoint, server: SharedMemoryServer) -> None:
        """Put a checkpoint's state into the server and the driver's module; with `workers=0` torch's random states too."""
        server.restore(checkpoint.snapshot)
        self._learner.set_float_buffers(checkpoint.floats)
        self._learner.set_integer_buffers(checkpoint.integers)
        if checkpoint.random and not self._config.workers:
            set_random_states(checkpoint.random, self._learner.device)

    def note_best(self, epoch: dict[str, Any]) -> None:
        """Keep the learner's model as that of the best epoch so far.

        Args:
            epoch: what `EpochEnded` said of it.
        """
        learner = self._learner
        floats, integers = learner.float_buffers(), learner.integer_buffers()
        self.best = Best(parameters=learner.parameters.clone(), floats=floats, integers=integers, epoch=epoch)
        self._best_is_saved = False

    def save(self, server: SharedMemoryServer, state: Callable[[], dict[str, Any]], tend: Callable[[], None] | None = None) -> None:
        """Write the state of now; and the best epoch, where that is newer than the one on disk.

        Args:
            server: whose parameters, clock and leases are kept.
            state: gives what the trainer keeps besides; it brings the module's buffers up to date first.
            tend: called while pushes under way are waited for.
        """
        snapshot = server.snapshot(tend)
        trainer = state()
        checkpoint = Checkpoint(
            snapshot=snapshot,
            floats=self._learner.float_buffers(),
            integers=self._learner.integer_buffers(),
            state=trainer,
            random={} if self._config.workers else random_states(self._learner.device),
        )
        name = self._checkpoints.write(checkpoint, self._learner.manifest)
        if self.best is not None and not self._best_is_saved:
            self._checkpoints.write_best(self.best, self._learner.manifest)
            self._best_is_saved = True
        self._tell(CheckpointWritten(step=snapshot.clock, name=name))
        self._saved = time.monotonic()
