"""Do the workers of a round finish together where one is three times as slow, and how much sooner is the round over?

Four workers on random rows, 256 a worker and round; each takes 12 times the processor time of its gradient, the last one 36 times, and
sleeps for the rest: so the machine has little to do, and what others do on it counts little. p is the same after each round whatever the
shares are (tests/training/strategies/test_load_balanced_sgd.py), so that the time of a round is the time to any loss.

What is possible. Where a gradient costs d·n, rounds of equal shares take 36·256·d, and balanced ones 12·n·d with n = 1024/(3 + 1/3) for the
fast: 2.5 times less. A cost that does not depend on n makes it less.

    python experiments/shares.py [--seconds 6] [--turns 2]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _contest import Contest, our_run, random_rows
from _measure import ONE_THREAD

os.environ.update(ONE_THREAD)

import torch
from _straggling import slow_by_processor_time

NORMAL, SLOW, BATCH, WORKERS = 12.0, 36.0, 256, 4
CONTEST = Contest(
    hidden=(512, 256), batch_size=BATCH, optimizer="sgd", learning_rate=1e-3, slow={**dict.fromkeys("012", NORMAL), "3": SLOW}
)
STRATEGIES: dict[str, dict[str, Any]] = {
    "parameter_server": {"name": "parameter_server"},
    "allreduce": {"name": "allreduce"},
    "load_balanced_sgd": {"name": "load_balanced_sgd"},
    "load_balanced_sgd, smoothing=0.1": {"name": "load_balanced_sgd", "smoothing": 0.1},
    "load_balanced_sgd, smoothing=0.8": {"name": "load_balanced_sgd", "smoothing": 0.8},
}
STRAGGLERS = {"stays": 0.0, "moves every 2 s": 2.0}
_WARM = 12


def measure(name: str, moves_s: float, data: Any, seconds: float) -> tuple[float, list[float], list[float]]:
    """Milliseconds a round, and for each worker rows, and milliseconds of computing, a round (where they are told)."""
    with our_run(replace(CONTEST, moves_s=moves_s), data, WORKERS, STRATEGIES[name]) as run:
        run.wait_for(_WARM)
        start, committed, before = time.monotonic(), run.committed, run.trainer.counters.shares
        time.sleep(seconds)
        took_s, rounds, after = time.monotonic() - start, (run.committed - committed) / WORKERS, run.trainer.counters.shares
        rows = [(new["rows"] - old["rows"]) / rounds for old, new in zip(before, after, strict=True)]
        busy = [1e3 * (new["busy_s"] - old["busy_s"]) / rounds for old, new in zip(before, after, strict=True)]
        return 1e3 * took_s / rounds, rows, busy


def main() -> None:
    """Measure everyone in turns, and print a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    slow_by_processor_time()
    data = random_rows(CONTEST, 64)
    print(f"load {os.getloadavg()[0]:.0f}")
    for straggler, moves_s in STRAGGLERS.items():
        found: dict[str, list[tuple[float, list[float], list[float]]]] = {}
        for _ in range(options.turns):
            for name in STRATEGIES:
                found.setdefault(name, []).append(measure(name, moves_s, data, options.seconds))
        for name, turns in found.items():
            times = [each[0] for each in turns]
            last = "; ".join(f"{rows:.0f} rows in {ms:.0f} ms" for rows, ms in zip(turns[-1][1], turns[-1][2], strict=True))
            print(f"{straggler}: {name}: {median(times):.0f} ms a round ({min(times):.0f} to {max(times):.0f}). {last}", flush=True)
    print(f"load {os.getloadavg()[0]:.0f}")


if __name__ == "__main__":
    main()
