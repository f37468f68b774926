"""Push + apply + pull of one vector: ours against a Ray actor, torch rpc and pyzmq, and against what the memory allows.

python parameter_server.py [--quick] [--json]
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import _data_paths as paths
from _measure import ONE_THREAD, Contestant, arguments, interleave, median, show

OURS = {"ours, atomic": paths.SharedMemory, "ours, not atomic": paths.SharedMemoryNotAtomic}
PEERS = {"ray actor": paths.RayActor, "torch rpc": paths.TorchRpc, "pyzmq": paths.ZeroMQ}
MOVED = {"sgd": 5, "adam": 9}
"""Floats per parameter that must move. SGD reads g and p, writes p; Adam also reads and writes m and v; a pull reads and writes p."""

_SAMPLE_S = 0.15
_MOST_TIMES = 1000


@dataclass(frozen=True)
class Case:
    """One vector and one optimizer, and how often each contestant is sampled."""

    name: str
    length: int
    optimizer: str
    rounds: int
    peer_rounds: int

    @property
    def moved_bytes(self) -> int:
        """What one step must read and write."""
        return 4 * self.length * MOVED[self.optimizer]


def cases(quick: bool) -> list[Case]:
    """What is measured. At 400 MB a peer takes seconds a step, and has fewer rounds."""
    sizes = [("4 KB", 1_024, 11, 11), ("1 MB", 250_000, 11, 11), ("40 MB", 10_000_000, 9, 9), ("400 MB", 100_000_000, 5, 3)]
    if quick:
        sizes = [(name, length, 5, 5) for name, length, _, _ in sizes[:3]]
    return [
        Case(name=name, length=length, optimizer=optimizer, rounds=rounds, peer_rounds=peer_rounds)
        for name, length, rounds, peer_rounds in sizes
        for optimizer in MOVED
    ]


def measure(case: Case, contestants: dict[str, Contestant], triad: Contestant) -> dict[str, Any]:
    """Medians of one case, in seconds a step, and the bandwidth of the triad beside them."""
    failed: dict[str, str] = {}
    samples: dict[str, Callable[[], float]] = {"triad": partial(triad.call, "measure")}
    for name, contestant in contestants.items():
        try:
            contestant.call("prepare", case.length, case.optimizer)
            contestant.call("verify")
            once = contestant.call("measure", 2)
            times = max(1, min(_MOST_TIMES, int(_SAMPLE_S / once)))
            samples[name] = partial(contestant.call, "measure", times)
        except RuntimeError as error:
            failed[name] = str(error)
    found = interleave(samples, case.peer_rounds)
    ours = {name: sample for name, sample in samples.items() if name not in PEERS}
    for name, more in interleave(ours, case.rounds - case.peer_rounds).items():
        found[name] += more
    for name in samples.keys() & contestants.keys():
        contestants[name].call("verify")
        contestants[name].call("release")
    bandwidth = median(found.pop("triad"))
    return {
        "size": case.name,
        "length": case.length,
        "optimizer": case.optimizer,
        "moved_bytes": case.moved_bytes,
        "triad_bytes_per_s": bandwidth,
        "step_s": {name: median(values) for name, values in found.items()},
        "samples": {name: len(values) for name, values in found.items()},
        "failed": failed,
    }


def rows_of(figures: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The table: a row a contestant a case."""
    rows = []
    for found in figures:
        steps = found["step_s"]
        best = min((steps[name] for name in PEERS if name in steps), default=None)
        fits_cache = found["length"] < paths.TRIAD_LENGTH
        for name, step_s in steps.items():
            speed = found["moved_bytes"] / step_s
            is_ours = name in OURS
            rows.append(
                {
                    "vector": found["size"],
                    "optimizer": found["optimizer"],
                    "data path": name,
                    "µs a step": f"{step_s * 1e6:,.1f}",
                    "MB to move": f"{found['moved_bytes'] / 1e6:,.2f}",
                    "GB/s": f"{speed / 1e9:.1f}",
                    "of the triad": f"{speed / found['triad_bytes_per_s']:.0%}" if is_ours and not fits_cache else "",
                    "best peer / ours": f"{best / step_s:.1f}×" if is_ours and best else "",
                    "n": str(found["samples"][name]),
                }
            )
        rows += [{"vector": found["size"], "optimizer": found["optimizer"], "data path": name, "n": "failed"} for name in found["failed"]]
    return rows


def main() -> None:
    """Measure every case and print the table."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    os.environ.update(ONE_THREAD)
    everyone: dict[str, Contestant] = {}
    missing: dict[str, str] = {}
    try:
        everyone["triad"] = Contestant("triad", paths.Triad)
        for name, build in {**OURS, **PEERS}.items():
            try:
                everyone[name] = Contestant(name, build, stops=name != "ray actor")
            except RuntimeError as error:
                missing[name] = str(error)
        triad = everyone["triad"]
        contestants = {name: contestant for name, contestant in everyone.items() if name != "triad"}
        figures = [measure(case, contestants, triad) for case in cases(options.quick)]
    finally:
        for contestant in everyone.values():
            contestant.close()
    bandwidth = median([found["triad_bytes_per_s"] for found in figures])
    notes = [
        f"triad: {bandwidth / 1e9:.1f} GB/s, one thread; a ← b + s·c on vectors of 40 MB, 3 × 4 bytes an element",
        "MB to move: what the algorithm must read and write, 5 floats a parameter with SGD and 9 with Adam, pull included",
        "of the triad: its store also reads what it overwrites, which is not counted and which updates in place need not do;",
        "they can so reach 133% of it, and caches may add to that",
        "every process computes with one thread, and every peer has a second process; medians of n interleaved samples",
        *[f"{name} is missing: {reason}" for name, reason in missing.items()],
        *[f"{name} at {found['size']}, {found['optimizer']}: {why}" for found in figures for name, why in found["failed"].items()],
    ]
    show("parameter_server", notes, rows_of(figures), {"missing": missing, "cases": figures}, as_json=options.json)


if __name__ == "__main__":
    main()
