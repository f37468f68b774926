"""Two workers against one, where computing is nearly all: our strategies, torch DDP, and what the cores allow.

    python scaling.py [--quick] [--json]

Everyone trains the same network on the same rows, with as many rows per worker and step and one thread a process, and goes on while
it is watched: rows a second are counted in the middle of a run, without its start and end. A step takes 20 to 50 ms of one core.

Two cores of a shared machine are seldom two: hyperthreads, a shared cache and other work take their part. So two independent plain
loops at once are measured against one alone. What they reach is what the cores allowed. Workers that
share p and the states can do better: they move less through caches and memory. `single`
trains in the process of the caller, which is what a user without workers has: the last ratio is against that.

The processor time that the workers took a batch is measured as well. Other work touches that only through caches and memory, so it tells on
a busy machine too what working together costs: two idle cores give at most 2 · (processor time a batch of one ÷ of two), less what
workers wait for each other.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from _measure import ONE_THREAD, arguments, interleave, median, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import psutil
from _contest import Contest, our_run, random_rows, strategies, torch_run, write_rows

import aimass

CONTEST = Contest(hidden=(1024, 1024), batch_size=256)
SMALL = replace(CONTEST, hidden=(512, 512), batch_size=64)
CEILING, DDP, SINGLE = "independent plain loops", "torch DDP", "single"
_NUM_BATCHES = 64
_WARM_STEPS = 5


@dataclass(frozen=True)
class Pace:
    """How fast someone went.

    Args:
        batches_per_s: over all processes.
        cpu_s: processor time of the processes that train, per batch.
    """

    batches_per_s: float
    cpu_s: float


def measure_ours(contest: Contest, data: aimass.data.Dataset, strategy: dict[str, Any], seconds: float, workers: int) -> Pace:
    """How fast ours go; without workers, in this process."""
    with our_run(contest, data, workers, strategy) as run:
        run.wait_for(_WARM_STEPS)
        pids = [run.pid(worker) for worker in range(workers)] or [os.getpid()]
        start, before, took = time.monotonic(), run.committed, cpu_s(pids)
        time.sleep(seconds)
        after, end, took = run.committed, time.monotonic(), cpu_s(pids) - took
    return Pace((after - before) / (end - start), took / max(after - before, 1))


def measure_torch(contest: Contest, seconds: float, processes: int, *, group: bool) -> Pace:
    """How fast plain loops or DDP go."""
    with torch_run(contest, processes, group=group) as run:
        run.wait_for(_WARM_STEPS)
        pids = [run.pid(rank) for rank in range(processes)]
        start, took = time.monotonic(), cpu_s(pids)
        time.sleep(seconds)
        end, took = time.monotonic(), cpu_s(pids) - took
        done = sum(int(((moments := run.steps(rank)) >= start).sum() - (moments > end).sum()) for rank in range(processes))
    return Pace(done / (end - start), took / max(done, 1))


def cpu_s(pids: list[int]) -> float:
    """Processor time that processes have taken."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return float(sum(one.user + one.system for one in times))


def rows_of(paces: dict[str, list[Pace]], batch_size: int) -> list[dict[str, str]]:
    """The table: a row a contestant. Ratios are medians over rounds, in which both were measured within a minute."""
    found = {name: [pace.batches_per_s for pace in values] for name, values in paces.items()}
    cpu = {name: median([pace.cpu_s for pace in values]) for name, values in paces.items()}
    ceiling, single = scaling(found, CEILING), found[f"{SINGLE} × 1"]
    rows = []
    for name in several(found):
        one, two = found[f"{name} × 1"], found[f"{name} × 2"]
        times = scaling(found, name)
        rows.append(
            {
                "": name,
                "1: rows/s": f"{median(one) * batch_size:,.0f}",
                "2: rows/s": f"{median(two) * batch_size:,.0f}",
                "2 ÷ 1": f"{median(times):.2f}",
                "least": f"{min(times):.2f}",
                "most": f"{max(times):.2f}",
                "of what the cores allowed": f"{median([a / b for a, b in zip(times, ceiling, strict=True)]):.0%}",
                "2 ÷ single": f"{median([a / b for a, b in zip(two, single, strict=True)]):.2f}",
                "CPU ms a batch, 1": f"{1e3 * cpu[f'{name} × 1']:.1f}",
                "2": f"{1e3 * cpu[f'{name} × 2']:.1f}",
                "n": str(len(times)),
            }
        )
    return [
        *rows,
        {
            "": SINGLE,
            "1: rows/s": f"{median(single) * batch_size:,.0f}",
            "CPU ms a batch, 1": f"{1e3 * cpu[f'{SINGLE} × 1']:.1f}",
            "n": str(len(single)),
        },
    ]


def several(found: dict[str, list[float]]) -> list[str]:
    """The contestants that were measured with two workers."""
    return [name.removesuffix(" × 2") for name in found if name.endswith(" × 2")]


def scaling(found: dict[str, list[float]], name: str) -> list[float]:
    """Two against one, round by round."""
    return [two / one for one, two in zip(found[f"{name} × 1"], found[f"{name} × 2"], strict=True)]


def main() -> None:
    """Measure everyone in turns and print the table."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    contest, seconds, rounds = (SMALL, 1.0, 1) if options.quick else (CONTEST, 3.0, 3)
    with tempfile.TemporaryDirectory() as folder:
        data = random_rows(contest, _NUM_BATCHES)
        contest = replace(contest, rows=write_rows(data, Path(folder)))
        contestants: dict[str, Callable[[int], Pace]] = {
            CEILING: partial(measure_torch, contest, seconds, group=False),
            DDP: partial(measure_torch, contest, seconds, group=True),
            **{name: partial(measure_ours, contest, data, strategy, seconds) for name, strategy in strategies().items()},
        }
        samples = {f"{name} × {number}": partial(measure, number) for name, measure in contestants.items() for number in (1, 2)}
        samples[f"{SINGLE} × 1"] = partial(measure_ours, contest, data, {"name": "single"}, seconds, 0)
        found = interleave(samples, rounds)
    rows = rows_of(found, contest.batch_size)
    notes = [
        f"MLP {contest.hidden}, Adam, {contest.batch_size} rows per worker per step, one thread a process;",
        f"rows in {seconds:g} s in the middle of each run; medians of n rounds, least and most of the rounds' ratios",
    ]
    figures = {"paces": {name: [asdict(pace) for pace in values] for name, values in found.items()}}
    show("scaling", notes, rows, figures, as_json=options.json)


if __name__ == "__main__":
    main()
