"""How a run went, in a few numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimass.training.checkpoints.checkpoint import Best
    from aimass.training.health.health import Health
    from aimass.training.stopping import StopRules
    from aimass.training.workers.counters import Counters


def summarise(
    rules: StopRules, counters: Counters, steps: int, epochs: float, best: Best | None, num_lost: int, health: Health, *, has_workers: bool
) -> dict[str, Any]:
    """What `Run.metrics` gives, as JSON.

    Args:
        rules: with the epochs so far and the time.
        counters: what the workers counted.
        steps: batches that are committed.
        epochs: passes over the training rows; the last may be a part of one.
        best: the best epoch, if there was one.
        num_lost: workers that ended before their time.
        health: how often the run went back, and what its curves say.
        has_workers: whether others than the run's own process train.
    """
    last = rules.history[-1] if rules.history else {"train_loss": None, "validation": {}}
    elapsed_s = rules.elapsed_s
    staleness = counters.staleness
    while len(staleness) > 1 and not staleness[-1]:
        staleness.pop()
    return {
        "steps": steps,
        "epochs": round(epochs, 3),
        "elapsed_s": round(elapsed_s, 3),
        "rows_per_s": round(counters.rows / max(elapsed_s, 1e-9), 1),
        "train_loss": last["train_loss"],
        "validation": last["validation"],
        "best": {"epoch": best.epoch["epoch"], **best.epoch["validation"]} if best else {},
        "staleness": staleness,
        "staleness_mean": counters.mean_staleness,
        "staleness_most": counters.most_staleness,
        **({"largest_lead": counters.largest_lead, "held_back_s": round(counters.held_s, 3)} if counters.largest_lead is not None else {}),
        "bytes_sent": counters.bytes_sent,
        "bytes_received": counters.bytes_received,
        **({"servers": servers} if (servers := counters.servers) else {}),
        **({"workers": counters.workers} if has_workers else {}),
        **({"shares": shares} if (shares := counters.shares) else {}),
        **({"slices": slices} if (slices := counters.memory) else {}),
        "workers_lost": num_lost,
        "gradients_refused": counters.num_refused,
        "rollbacks": health.num_rollbacks,
        "rate_factor": health.rate_factor,
        "fit": asdict(health.fit) if health.fit else None,
    }
