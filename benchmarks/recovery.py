"""SIGKILL of one of two workers, until training runs at its full rate again: ours against torchrun and Ray Train.

    python recovery.py [--quick] [--json]

A contestant trains until its rate is steady; then one worker's process is killed. Three moments are counted from there:

- *first batch*: the first one done by whoever replaces the dead worker;
- *full rate*: the last of the first N batches in a row, all of them after the kill, that came at 90% of the rate before or faster;
- *work done again*: how much of what was done before the kill is done twice. Ours do none but the dead worker's own batch.

torchrun is started with `--max-restarts`, Ray Train with a `FailureConfig`. Both end every worker and start all of them again, and what
was trained must be loaded from a checkpoint that the loop wrote itself: here every second. Batches of DDP are counted as the steps of
its first process, which it takes together with the others.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from _measure import ONE_THREAD, arguments, interleave, median, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import numpy as np
from _contest import START_S, Contest, OurRun, PeerRun, our_run, random_rows, ray_run, strategies, torch_run, write_rows

import aimass

CONTEST = Contest(hidden=(512, 512), batch_size=128, checkpoint_s=1.0)
NUM_WORKERS, VICTIM = 2, 1
WINDOW = 20  # batches
FULL = 0.9
_NUM_BATCHES = 256
_WARM_STEPS = 20
_SETTLE_S = 2.5
_LOOK_S = 0.02
_RESTARTS = 3


def measure_ours(contest: Contest, data: aimass.data.Dataset, strategy: dict[str, Any], kills: int) -> list[dict[str, float]]:
    """Kill one of our workers, again and again."""
    with our_run(contest, data, NUM_WORKERS, strategy) as run:
        run.wait_for(_WARM_STEPS)
        return [kill_and_watch(run) for _ in range(kills)]


def measure_torchrun(contest: Contest) -> list[dict[str, float]]:
    """Kill one of DDP's processes, and let torchrun restart them."""
    with torch_run(contest, NUM_WORKERS, group=True, options=(f"--max-restarts={_RESTARTS}",)) as run:
        run.wait_for(_WARM_STEPS)
        return [kill_and_watch(run)]


def measure_ray(contest: Contest) -> list[dict[str, float]]:
    """Kill one of Ray Train's workers, and let it restart them."""
    with ray_run(contest, NUM_WORKERS) as run:
        run.wait_for(_WARM_STEPS)
        return [kill_and_watch(run)]


def kill_and_watch(run: OurRun | PeerRun) -> dict[str, float]:
    """End the victim once the rate is steady, and watch until it is as it was."""
    run.watch(_SETTLE_S)
    pid, done = run.pid(VICTIM), len(run.moments)
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    while not is_dead(pid):
        run.watch(0.001)
    dead, kept = time.monotonic(), run.kept()
    first = full = float("inf")
    while max(first, full) == float("inf") and time.monotonic() < killed + START_S and not run.is_over:
        run.watch(_LOOK_S)
        first = float(min((moment for moment in run.steps(VICTIM) if moment > dead), default=float("inf"))) - killed
        full = full_rate_s(np.array(run.moments), killed)
    if full == float("inf"):
        print(f"it did not recover in {time.monotonic() - killed:.0f} s: {run.said}", file=sys.stderr)
    return {"first_batch_s": first, "full_rate_s": full, "batches_again": max(0, done - kept)}


def full_rate_s(moments: np.ndarray, killed: float) -> float:
    """Seconds from the kill to the end of the first window that is as fast as the windows before it; infinite while there is none."""
    before, after = moments[(moments < killed) & (moments > killed - _SETTLE_S)], moments[moments >= killed]
    usual_s = float(np.median(before[WINDOW:] - before[:-WINDOW]))
    ends = after[WINDOW:][after[WINDOW:] - after[:-WINDOW] <= usual_s / FULL]
    return float(ends[0]) - killed if len(ends) else float("inf")


def is_dead(pid: int) -> bool:
    """Whether a process has ended, though perhaps nobody has asked for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def rows_of(found: dict[str, list[dict[str, float]]]) -> list[dict[str, str]]:
    """The table: a row a contestant. `inf` is one that did not recover."""
    rows = []
    for name, values in found.items():
        full = [value["full_rate_s"] for value in values]
        rows.append(
            {
                "SIGKILL of one of two workers": name,
                "first batch of the next, s": f"{median([value['first_batch_s'] for value in values]):.2f}",
                "full rate, s": f"{median(full):.2f}",
                "least": f"{min(full):.2f}",
                "most": f"{max(full):.2f}",
                "batches done again": f"{median([value['batches_again'] for value in values]):.0f}",
                "n": str(len(values)),
            }
        )
    return rows


def main() -> None:
    """Measure everyone in turns and print the table."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    rounds, kills = (1, 1) if options.quick else (3, 3)
    with tempfile.TemporaryDirectory() as folder:
        data = random_rows(CONTEST, _NUM_BATCHES)
        contest = replace(CONTEST, rows=write_rows(data, Path(folder)))
        samples: dict[str, Callable[[], list[dict[str, float]]]] = {
            **{name: partial(measure_ours, contest, data, strategy, kills) for name, strategy in strategies().items()},
            "torchrun --max-restarts": partial(measure_torchrun, contest),
            "Ray Train": partial(measure_ray, contest),
        }
        found = {name: list(chain.from_iterable(values)) for name, values in interleave(samples, rounds).items()}
    notes = [
        f"MLP {CONTEST.hidden}, Adam, {CONTEST.batch_size} rows per worker per step, one thread a process; peers write a checkpoint every",
        f"{CONTEST.checkpoint_s:g} s. Full rate: {WINDOW} batches after the kill at {FULL:.0%} of the rate before, their own time included",
    ]
    show("recovery", notes, rows_of(found), {"seconds": found}, as_json=options.json)


if __name__ == "__main__":
    main()
