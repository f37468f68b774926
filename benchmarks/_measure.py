"""What the benchmarks share: contestants in processes of their own, taken in turns, and tables of medians.

A contestant waits for its turn stopped (SIGSTOP), with all the processes that it started: some peers spin while they are idle.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
_ANSWER_S = 180.0
_LOAD_BEFORE = os.getloadavg()[0]
_PR_SET_PDEATHSIG = 1
Sample = TypeVar("Sample")


class Contestant:
    """A process that answers calls by name, and stands still between them.

    Args:
        name: what tables call it.
        build: run in the new process; gives the object whose methods are called. Importable by name.
        stops: whether it may be stopped between its turns; False for one that spreads over a service of its own.

    Raises:
        RuntimeError: it failed or did not answer; the message says how.
    """

    def __init__(self, name: str, build: Callable[[], Any], *, stops: bool = True) -> None:
        self.name, self._stops = name, stops
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(build, theirs), name=name)
        self._process.start()
        theirs.close()
        self._receive()
        self._signal(signal.SIGSTOP)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method in the contestant's process, and return what it returned."""
        self._signal(signal.SIGCONT)
        try:
            self._connection.send((method, arguments))
            return self._receive()
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """Let it leave, or end it. What it started ends with it."""
        self._signal(signal.SIGCONT)
        try:
            self._connection.send(("close", ()))
            self._process.join(20)
        except OSError:
            pass  # it is gone already
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self) -> Any:
        try:
            if not self._connection.poll(_ANSWER_S):
                raise RuntimeError(f"{self.name} did not answer within {_ANSWER_S:.0f} s")
            done, value = self._connection.recv()
        except EOFError:
            raise RuntimeError(f"{self.name} ended without an answer") from None
        if not done:
            raise RuntimeError(f"{self.name} failed: {value}")
        return value

    def _signal(self, number: signal.Signals) -> None:
        if self._stops and self._process.pid is not None:
            for pid in [*_children(self._process.pid), self._process.pid]:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text(encoding="ascii").split()] if listed.exists() else []


def _serve(build: Callable[[], Any], connection: Connection) -> None:
    """What a contestant's process runs."""
    die_with_parent()
    try:
        contestant = build()
        connection.send((True, None))
        while True:
            method, arguments = connection.recv()
            if method == "close":
                contestant.close()
                return
            connection.send((True, getattr(contestant, method)(*arguments)))
    except EOFError:
        return  # whoever asked is gone
    except Exception as error:  # noqa: BLE001 - the one who asked is told
        connection.send((False, f"{type(error).__name__}: {error}"))


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends: a stopped one would stay for ever."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def interleave(samples: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    """Take one sample of each in every round, and begin each round with another one.

    >>> interleave({"a": lambda: 1.0, "b": lambda: 2.0}, rounds=2)
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    names = list(samples)
    found: dict[str, list[Sample]] = {name: [] for name in samples}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(samples[name]())
    return found


def timed(action: Callable[[], object], times: int = 1) -> float:
    """Seconds that one call takes, over `times` calls."""
    start = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - start) / times


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under the names of their columns, aligned.

    >>> print(table([{"what": "a", "ms": "1.5"}, {"what": "bcd", "ms": "20.0"}]))
    what    ms
    a      1.5
    bcd   20.0
    """
    names = list(rows[0])
    cells = [names, *[[str(row.get(name, "")) for name in names] for row in rows]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    lines = []
    for line in cells:
        first, *rest = zip(line, widths, strict=True)
        lines.append("  ".join([first[0].ljust(first[1]), *[cell.rjust(width) for cell, width in rest]]).rstrip())
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures were taken on, and how busy it was."""
    import torch

    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "load_before": round(_LOAD_BEFORE, 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer samples of fewer cases, to see that it works")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and nothing else")
    return parser


def show(
    title: str,
    notes: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Any],
    *,
    as_json: bool,
    more: Sequence[tuple[Sequence[Mapping[str, Any]], Sequence[str]]] = (),
) -> None:
    """Print what a benchmark found: for people as tables with their notes, for programs as JSON.

    Args:
        title: the script's name, without its suffix.
        notes, rows: the first table, and what is said below it.
        figures: what programs get, beside the machine.
        as_json: for whom.
        more: further tables, each with its notes.
    """
    if as_json:
        print(json.dumps({"benchmark": title, "machine": machine(), **figures}, indent=2))
        return
    facts = machine()
    load = f"load {_LOAD_BEFORE:.1f} before and {facts['load']:.1f} after"
    print(f"{title}\n{facts['cpu']}, {facts['cores']} cores, {load}; Python {facts['python']}, torch {facts['torch']}\n")
    for part, said in ((rows, notes), *more):
        print(table(part))
        print("\n" + "\n".join(said) + "\n")
