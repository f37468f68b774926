"""What is done to the workers of a comparison: who is slow, and who is killed when."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aimass.core.config import seconds
from aimass.core.errors import UsageError
from aimass.training import events as happened

if TYPE_CHECKING:
    from aimass.core.events import Envelope

_SLOW = re.compile(r"\s*(\d{1,3})\s*:\s*(\d+(?:\.\d+)?)\s*x?\s*", re.IGNORECASE)
_KILL = re.compile(r"\s*(\d{1,3})\s*@\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True)
class Kill:
    """Which worker is killed when. One of the three is set.

    Args:
        worker: by its number from 0.
        after_s: seconds after training began.
        share: of the run's steps, above 0 and below 1.
        steps: batches of the run.
    """

    worker: int
    after_s: float | None = None
    share: float | None = None
    steps: int | None = None

    def is_due(self, step: int, total_steps: int | None) -> bool:
        """Whether a run that has done so many steps has come to it."""
        if self.steps is not None:
            return step >= self.steps
        return self.share is not None and total_steps is not None and step >= self.share * total_steps

    @property
    def moment(self) -> str:
        """When, in words."""
        if self.steps is not None:
            return f"step {self.steps:,}"
        return f"{100 * self.share:g}% of the steps" if self.share is not None else f"{self.after_s:g} s"

    def __str__(self) -> str:
        return f"worker {self.worker} is killed at {self.moment}"


def read_slow(value: Mapping[int, float] | Sequence[str] | str | None) -> dict[int, float]:
    """How many times as long which workers take, out of `"1:3x"` or several of those.

    Raises:
        UsageError: it is written otherwise.

    >>> read_slow(["0:1.5", "1:3x"]), read_slow({1: 3.0})
    ({0: 1.5, 1: 3.0}, {1: 3.0})
    """
    if isinstance(value, Mapping):
        try:
            return {int(worker): float(factor) for worker, factor in value.items()}
        except (TypeError, ValueError):
            raise UsageError(f"slow={value!r} names no workers and factors; write it like {{1: 3.0}}, or 1:3x") from None
    found = {}
    for text in _texts(value, "slow", "1:3x"):
        match = _SLOW.fullmatch(str(text))
        if match is None:
            raise UsageError(f"slow={text!r} is no worker and factor; write it like 1:3x, for a worker 1 that takes three times as long")
        if int(match[1]) in found:
            raise UsageError(f"slow names worker {int(match[1])} twice; give one factor for each worker")
        found[int(match[1])] = float(match[2])
    return found


def read_kills(value: Mapping[int, Any] | Sequence[str | Kill] | str | Kill | None) -> tuple[Kill, ...]:
    """Who is killed when, out of `"1@10s"`, `"1@50%"` (of the steps), `"1@200"` (at that step), or several of those.

    Raises:
        UsageError: it is written otherwise.

    >>> read_kills(["1@10s", "0@50%"])[1]
    Kill(worker=0, after_s=None, share=0.5, steps=None)
    """
    if isinstance(value, Mapping):
        value = [f"{worker}@{moment if isinstance(moment, str) else f'{moment}s'}" for worker, moment in value.items()]
    return tuple(one if isinstance(one, Kill) else _read_kill(one) for one in _texts(value, "kill", "1@10s"))


def check_workers(workers: int, slow: Mapping[int, float], kills: Sequence[Kill]) -> None:
    """See whether those who are named are there.

    Raises:
        UsageError: somebody is not.
    """
    for name, worker in [("slow", worker) for worker in slow] + [("kill", kill.worker) for kill in kills]:
        if worker >= workers:
            there = f"there are workers 0 to {workers - 1}" if workers > 1 else "there is worker 0" if workers else "there are none"
            raise UsageError(f"{name} names worker {worker}, and {there}; workers are counted from 0")


def _texts(value: Any, name: str, example: str) -> list[Any]:
    if value is not None and not isinstance(value, str | Kill | Sequence):
        raise UsageError(f"{name}={value!r} names nobody; write it like {example}, or several of those as a list")
    return [] if value is None else [value] if isinstance(value, str | Kill) else list(value)


def _read_kill(text: str) -> Kill:
    match = _KILL.fullmatch(str(text))
    worker, moment = (int(match[1]), match[2]) if match else (0, "")
    if re.fullmatch(r"\d+", moment) and int(moment):
        return Kill(worker=worker, steps=int(moment))
    if re.fullmatch(r"\d+(\.\d+)?%", moment) and 0 < float(moment[:-1]) < 100:
        return Kill(worker=worker, share=float(moment[:-1]) / 100)
    if re.fullmatch(r"\d+(\.\d+)?[smh]", moment):
        return Kill(worker=worker, after_s=min(float(str(seconds(moment))), threading.TIMEOUT_MAX))
    raise UsageError(f"kill={text!r} is no worker and moment; write it like 1@10s, 1@50% (of the steps) or 1@200 (at that step)")


class Killer:
    """Kills workers of one run with SIGKILL, when it is time. To be closed when the run has ended.

    It holds each process by a descriptor, so that it can never hit another one that has got the same number.

    Args:
        kills: whom, and when.
    """

    def __init__(self, kills: Sequence[Kill]) -> None:
        self._waiting, self._due = list(kills), set[int]()
        self._descriptors: dict[int, int] = {}
        self._timers: list[threading.Timer] = []
        self._total_steps: int | None = None
        self._lock = threading.Lock()

    def hear(self, envelope: Envelope) -> None:
        """Take in one event of the run."""
        match envelope.event():
            case happened.RunStarted() as event:
                self._total_steps = event.total_steps
                timed = [kill for kill in self._waiting if kill.after_s is not None]
                self._timers = [threading.Timer(kill.after_s or 0.0, self._carry_out, [kill]) for kill in timed]
                for timer in self._timers:
                    timer.daemon = True
                    timer.start()
            case happened.WorkerStarted() as event:
                self._see(event.worker, event.pid)
            case happened.Progress() | happened.EpochEnded() as event:
                for kill in [kill for kill in self._waiting if kill.is_due(event.step, self._total_steps)]:
                    self._carry_out(kill)

    def close(self) -> list[Kill]:
        """Stop waiting. Gives those to whom it did not come."""
        for timer in self._timers:
            timer.cancel()
            timer.join()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        return self._waiting

    def _see(self, worker: int, pid: int) -> None:
        with self._lock:
            if worker in self._descriptors:
                os.close(self._descriptors.pop(worker))
            try:
                self._descriptors[worker] = os.pidfd_open(pid)
            except ProcessLookupError:
                return
        for kill in [kill for kill in self._waiting if id(kill) in self._due and kill.worker == worker]:
            self._carry_out(kill)

    def _carry_out(self, kill: Kill) -> None:
        """Kill the worker, or, where it is not there just now, the next one in its place."""
        with self._lock:
            self._due.add(id(kill))
            if kill not in self._waiting or kill.worker not in self._descriptors:
                return
            try:
                signal.pidfd_send_signal(self._descriptors[kill.worker], signal.SIGKILL)
            except ProcessLookupError:
                return
            self._waiting.remove(kill)
