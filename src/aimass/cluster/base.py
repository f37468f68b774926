"""What a cluster offers to a run: workers somewhere, and word of their deaths."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimass.cluster.wire import Wire

Entry = Callable[["Context"], None]
"""What a worker runs. It reaches a local worker by cloudpickle over an inherited pipe."""


@dataclass(kw_only=True)
class Context:
    """What a worker finds when it starts.

    Args:
        name: what messages call it (`"worker 1"`).
        connection: to and from the run; messages are JSON, bounded in size.
        descriptors: shared memory and files that the run passed on, in its order.
        payload: whatever the run gave to `start`.
    """

    name: str
    connection: Connection
    descriptors: list[int]
    payload: Any


@dataclass(kw_only=True)
class Process:
    """A started worker, as its run sees it."""

    name: str
    connection: Wire
    pid: int = 0
    exit_status: int | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        """Whether no word of its end has come."""
        return self.exit_status is None

    def describe_exit(self) -> str:
        """How it ended, for a person.

        >>> Process(name="worker 0", connection=None, exit_status=-9).describe_exit()
        'killed by SIGKILL'
        """
        import signal

        if self.exit_status is None:
            return "still running"
        if "why" in self.details:
            return f"not started ({self.details['why']})"
        if self.exit_status < 0:
            return f"killed by {signal.Signals(-self.exit_status).name}"
        return f"ended with status {self.exit_status}"


class Cluster(ABC):
    """A place for workers."""

    @abstractmethod
    def start(self, name: str, entry: Entry, payload: Any, descriptors: Sequence[int], log: Path) -> Process:
        """Start one worker and return at once."""

    @abstractmethod
    def poll(self, timeout_s: float) -> list[Process]:
        """Wait for something to happen, and return the workers that have ended since the last call."""

    @abstractmethod
    def kill(self, process: Process) -> None:
        """End a worker now. Its end is reported by `poll` like any other."""

    @abstractmethod
    def close(self) -> None:
        """End every worker that is left and give everything back."""
