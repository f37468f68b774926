"""Checkpoints that were written, and those that could not be, or could not be read."""

from __future__ import annotations

from dataclasses import dataclass

from aimass.core.events import Event


@dataclass(frozen=True, kw_only=True)
class CheckpointWritten(Event):
    """The state of a step is on disk. Training waited for `paused_s`; from the copy to the disk it took `took_s`."""

    kind = "checkpoint"
    step: int
    name: str
    paused_s: float = 0.0
    took_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CheckpointFailed(Event):
    """A checkpoint could not be written. Training goes on and tries again; this is told once, until it has worked again."""

    kind = "checkpoint_failed"
    step: int
    message: str


@dataclass(frozen=True, kw_only=True)
class CheckpointUnreadable(Event):
    """A checkpoint could not be read, and an older one is used."""

    kind = "checkpoint_unreadable"
    name: str
    reason: str
