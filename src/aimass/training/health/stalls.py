"""Stalls: which process does not get on, and which others merely wait for it."""

from __future__ import annotations

import os
import re
import signal
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import FrameType

from aimass.training.health.operations import AWAITS_LOCKS, AWAITS_OTHERS, STARTING

_PATIENCE = 3.0
_KEPT_DURATIONS = 5
_ANSWER_S = 2.0
_SETTLED_S = 0.06
_LONGEST_STACK = 4000
_FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+) in (?P<name>.+)')


@dataclass(frozen=True, kw_only=True)
class Still:
    """A process that has done one thing for longer than it may.

    Args:
        worker: its slot, or None for the run's own process.
        operation: what it does, of `operations`.
        still_s: for how long.
        is_stopped: whether it was stopped from outside.
        holds_lock: whether it is inside a push that was admitted.
    """

    worker: int | None
    pid: int
    operation: int
    still_s: float
    is_stopped: bool = False
    holds_lock: bool = False


def culprits(still: Sequence[Still], num_moving: int) -> list[Still]:
    """Who is to be named: not those that wait for another.

    A stopped process comes first, then those that compute, start, or hold a lock, then those that wait for a lock. Those that wait for
    the others are named only when nobody moves whom they could be waiting for.

    Args:
        still: who stands still.
        num_moving: how many others get on.

    >>> waits, computes = Still(worker=0, pid=1, operation=5, still_s=9.0), Still(worker=1, pid=2, operation=3, still_s=9.0)
    >>> [one.worker for one in culprits([waits, computes], 0)], culprits([waits], 1), len(culprits([waits], 0))
    ([1], [], 1)
    """
    stopped = [one for one in still if one.is_stopped]
    if stopped:
        return stopped
    active = [one for one in still if one.operation not in AWAITS_OTHERS]
    if active:
        return [one for one in active if one.operation not in AWAITS_LOCKS or one.holds_lock] or active
    return [] if num_moving else list(still)


@dataclass
class Watched:
    """What one process does, as seen again and again from outside.

    Args:
        least_s: how long it may do one thing at least.
    """

    least_s: float
    operation: int = -1
    since_ns: int = 0
    is_named: bool = False
    _durations: dict[int, deque[float]] = field(default_factory=dict)

    def see(self, operation: int, since_ns: int) -> float | None:
        """Take in what it does now. What took it so long before is remembered: a model whose steps take seconds is not stalled.

        Returns:
            for how many seconds it had done what it did before, where it now does something else; None where it still does the same.
        """
        if (operation, since_ns) == (self.operation, self.since_ns):
            return None
        took_s = (since_ns - self.since_ns) / 1e9
        if self.since_ns:
            self._durations.setdefault(self.operation, deque(maxlen=_KEPT_DURATIONS)).append(took_s)
        self.operation, self.since_ns = operation, since_ns
        return took_s

    @property
    def limit_s(self) -> float:
        """How long it may do what it does: thrice what that usually takes, and at least as long as is set; thrice that to start."""
        durations = self._durations.get(self.operation)
        if self.operation == STARTING:
            return _PATIENCE * self.least_s
        return max(self.least_s, _PATIENCE * median(durations)) if durations else self.least_s

    def still_s(self) -> float:
        """For how long it has done what it does."""
        return (time.monotonic_ns() - self.since_ns) / 1e9 if self.since_ns else 0.0


def ask_for_stack(pid: int, log: Path) -> str | None:
    """Have a worker write where it is into its log, and read that. None where it does not answer.

    SIGUSR1 is caught by `faulthandler`, which works whatever the worker is doing. A process that does not catch it would be ended by it,
    so it is only sent to one that does.
    """
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        if not _catches(pid, signal.SIGUSR1):
            return None
        before = log.stat().st_size
        signal.pidfd_send_signal(process, signal.SIGUSR1)
        return _first_stack(_what_comes(log, before))
    except OSError:
        return None
    finally:
        os.close(process)


def stack_of(frame: FrameType) -> str:
    """The stack of a thread of this process, the innermost call first, as `faulthandler` writes it."""
    frames = reversed(traceback.extract_stack(frame))
    return "\n".join(f'File "{frame.filename}", line {frame.lineno} in {frame.name}' for frame in frames)[:_LONGEST_STACK]


def place_of(stack: str | None) -> str | None:
    """The innermost line of a stack.

    >>> place_of('File "/home/me/net.py", line 12 in forward' + chr(10) + 'File "/x.py", line 3 in main')
    '/home/me/net.py:12 in forward'
    """
    found = _FRAME.search(stack or "")
    return f"{found['file']}:{found['line']} in {found['name']}" if found else None


def _catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def _what_comes(log: Path, before: int) -> str:
    """What is appended to a file, once it grows no more."""
    deadline, size, grew = time.monotonic() + _ANSWER_S, before, time.monotonic()
    while time.monotonic() < deadline and (size == before or time.monotonic() - grew < _SETTLED_S):
        time.sleep(0.01)
        now = log.stat().st_size
        if now != size:
            size, grew = now, time.monotonic()
    with log.open("rb") as file:
        file.seek(before)
        return file.read(64 << 10).decode(errors="replace")


def _first_stack(written: str) -> str | None:
    """The frames of the thread that took the signal, which is the main one; of the first, where it says nothing of that."""
    for head in ("Current thread ", "Thread "):
        _, found, rest = written.partition(head)
        if found:
            frames = [line.strip() for line in rest.splitlines()[1:]]
            ends = next((number for number, line in enumerate(frames) if not line.startswith('File "')), len(frames))
            if ends:
                return "\n".join(frames[:ends])[:_LONGEST_STACK]
    return None
