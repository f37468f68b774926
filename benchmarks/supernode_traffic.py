"""Supernodes: the traffic at the root by the size of the groups, and what dividing a group's work by speed gains.

    python supernode_traffic.py [--quick] [--json]

*Traffic*: eight workers train the same network on the digits from the same start, each for itself (`async_sgd`, groups of one), and in
groups of 2, 4 and 8. The bytes that pass between the root and its clients are counted, whatever carries them. A group's combination is
one step, of as many batches as the group has workers; so each size runs at the same rate for every step, and at one that grows with the
square root of the size.

*Balance*: one group of four, of whom one is three times as slow. All wait for it, or it does a third of what each other does: then the
group is up to (3 + 1/3) / (4 · 1/3) = 2.5 times as fast.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from _measure import ONE_THREAD, arguments, median, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import aimass
from aimass.training.workers.shaping import shaped

WORKERS = 8
SIZES = (1, 2, 4, 8)
RATE = 0.1
SETTINGS: dict[str, Any] = {"model": {"name": "mlp", "hidden": [64]}, "batch_size": 32, "checkpoint": {"every": 1000}}


def strategy_of(size: int) -> dict[str, Any]:
    """Groups of a size."""
    return {"name": "async_sgd"} if size == 1 else {"name": "supernode", "group_size": size}


def traffic(size: int, rate: float, epochs: int, seed: int) -> dict[str, float]:
    """Bytes a row at the root, both ways, and the training loss in the end."""
    data = aimass.data.load("digits")
    settings = {**SETTINGS, "workers": WORKERS, "epochs": epochs, "seed": seed, "optimizer": {"name": "sgd", "lr": rate}}
    with tempfile.TemporaryDirectory() as home:
        metrics = aimass.train(data, **settings, strategy=strategy_of(size), home=home).wait().metrics()
    rows, root = epochs * len(data.train), "" if size == 1 else "root_"
    return {
        "sent": metrics[f"{root}bytes_sent"] / rows,
        "received": metrics[f"{root}bytes_received"] / rows,
        "loss": metrics["train_loss"],
        "late": metrics["staleness_mean"],
    }


def balance(balances: bool, epochs: int) -> dict[str, float]:
    """Rows a second of a group of four, of whom one is slow, and the share of the rows that it does."""
    data = aimass.data.load("digits")
    settings = {**SETTINGS, "batch_size": 128, "model": {"name": "mlp", "hidden": [512, 512]}, "workers": 4, "epochs": epochs}
    strategy = {"name": "supernode", "groups": 1, "balance": balances}
    # All sleep for most of their time, so that who is slow is decided by that and not by who gets a core.
    with tempfile.TemporaryDirectory() as home, shaped(slow={0: 6.0, 1: 6.0, 2: 6.0, 3: 18.0}):
        metrics = aimass.train(data, **settings, strategy=strategy, home=home).wait().metrics()
    rows = [member["rows"] for member in metrics["groups"][0]["members"]]
    return {"rows_per_s": metrics["rows_per_s"], "share": rows[-1] / sum(rows)}


def main() -> None:
    """Run both parts, and print two tables."""
    parser = arguments(__doc__.splitlines()[0])
    options = parser.parse_args()
    seeds, epochs = (1, 4) if options.quick else (3, 15)
    figures, sizes, balanced = [], [], []
    for size in SIZES:
        plain = [traffic(size, RATE, epochs, seed) for seed in range(seeds)]
        scaled = [traffic(size, RATE * size**0.5, epochs, seed) for seed in range(seeds)] if size > 1 else plain
        figures.append({"part": "traffic", "size": size, "plain": plain, "scaled": scaled})
        sent, received, loss, late = (median([one[name] for one in plain]) for name in ("sent", "received", "loss", "late"))
        sizes.append(
            {
                "group size": str(size),
                "bytes a row to the root": f"{sent:,.1f}",
                "and from it": f"{received:,.1f}",
                "loss": f"{loss:.4f}",
                "at rate · √size": f"{median([one['loss'] for one in scaled]):.4f}",
                "mean τ": f"{late:.2f}",
            }
        )
    for balances in (False, True):
        runs = [balance(balances, epochs) for _ in range(seeds)]
        figures.append({"part": "balance", "balance": balances, "found": runs})
        rows_per_s, share = (median([run[name] for run in runs]) for name in ("rows_per_s", "share"))
        balanced.append({"balance": str(balances).lower(), "rows/s": f"{rows_per_s:,.0f}", "rows by the slow one": f"{share:.0%}"})
    notes = [f"{WORKERS} workers, digits, SGD at {RATE:g}, batches of 32, {epochs} epochs; medians of {seeds} seeds; size 1 is async_sgd"]
    about_balance = ["one group of four, of whom one takes three times as long; rows/s from the start of the run"]
    show("supernode_traffic", notes, sizes, {"cases": figures}, as_json=options.json, more=[(balanced, about_balance)])


if __name__ == "__main__":
    main()
