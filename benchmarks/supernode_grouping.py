"""Two fast and two slow workers in two supernodes: groups of like speed against groups of a fast and a slow one.

    python supernode_grouping.py [--quick] [--json]

Where a group's work is divided by speed, its members end together whoever they are, and the groups together do 2 · (1 + 1/3) of a fast
worker's work in either way. Where it is divided evenly, a fast worker waits for the slow one of its group: mixed groups do 2 · 2 · 1/3,
and groups of like speed twice as much. What is measured is how much of that is found, and what it is worth in time to a loss: for the slow
group's combinations come late.

Workers sleep for 19/20 of their time, and slow ones for 59/60, by the processor's time, so that neither contention nor other work
decides who waits for whom. Everything counts from the first batch: groups of like speed begin as mixed ones.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from _measure import ONE_THREAD, arguments, interleave, median, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import torch
from _contest import Contest, our_run
from _straggling import Judge, slow_by_processor_time

import aimass

WORKERS, TARGET, LIMIT_S = 4, 0.02, 60.0
NORMAL, SLOW = 20.0, 60.0
CONTEST = Contest(
    hidden=(512, 256),
    batch_size=64,
    outputs=10,
    optimizer="sgd",
    learning_rate=0.5,
    slow={"0": NORMAL, "1": SLOW, "2": NORMAL, "3": SLOW},
)
WAYS: dict[str, dict[str, Any]] = {
    "gradient, balanced": {"push": "gradient"},
    "gradient, even shares": {"push": "gradient", "balance": False},
    "delta, balanced": {"push": "delta"},
    "delta, even shares": {"push": "delta", "balance": False},
}
GROUPINGS = ("slots", "speed")


def measure(data: aimass.data.Dataset, way: str, grouping: str) -> dict[str, float]:
    """Seconds to the target; from its start to then, rows a second; and bytes to the root a row over the whole run."""
    judge = Judge(CONTEST, data, TARGET)
    with our_run(CONTEST, data, WORKERS, {"name": "supernode", "groups": 2, "grouping": grouping, **WAYS[way]}) as run:
        took_s = judge.time_to_target(run, LIMIT_S)
        batches = run.committed
    metrics = run.run.metrics()
    rows_per_batch = len(data.train) / -(-len(data.train) // CONTEST.batch_size)
    return {
        "took_s": took_s,
        "rows_per_s": batches * rows_per_batch / min(took_s, LIMIT_S),
        "root_bytes_per_row": metrics["root_bytes_sent"] / (metrics["steps"] * rows_per_batch),
        "late": metrics["staleness_mean"],
    }


def rows_of(found: dict[str, list[dict[str, float]]]) -> list[dict[str, str]]:
    """The table: a row a way and a grouping."""
    rows = []
    for way in WAYS:
        by_slots = median([one["took_s"] for one in found[f"{way}, slots"]])
        for grouping in GROUPINGS:
            samples = found[f"{way}, {grouping}"]
            times = [one["took_s"] for one in samples]
            rows.append(
                {
                    "pushed": way,
                    "grouping": grouping,
                    f"s to a loss of {TARGET:g}": f"{median(times):.2f}",
                    "least to most": f"{min(times):.2f} to {max(times):.2f}",
                    "× as fast": f"{by_slots / median(times):.2f}",
                    "rows/s": f"{median([one['rows_per_s'] for one in samples]):,.0f}",
                    "bytes a row to the root": f"{median([one['root_bytes_per_row'] for one in samples]):,.0f}",
                    "mean τ": f"{median([one['late'] for one in samples]):.2f}",
                }
            )
    return rows


def main() -> None:
    """Measure every way with both groupings in turns, and print the table."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    slow_by_processor_time()
    data = aimass.data.load("digits")
    contestants = {f"{way}, {grouping}": partial(measure, data, way, grouping) for way in WAYS for grouping in GROUPINGS}
    found = interleave(contestants, 1 if options.quick else 3)
    notes = [
        f"digits, MLP {CONTEST.hidden}, SGD at {CONTEST.learning_rate:g}, {WORKERS} workers of {CONTEST.batch_size} rows, {NORMAL:g} or",
        f"{SLOW:g} × as long as on a core; groups of two; medians of {1 if options.quick else 3} turns; at most {LIMIT_S:g} s",
    ]
    show("supernode_grouping", notes, rows_of(found), {"cases": found}, as_json=options.json)


if __name__ == "__main__":
    main()
