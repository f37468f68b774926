"""How a run's health is shown: what its processes cost and got done, and what was not well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aimass.cli.output import number, print_table, size

if TYPE_CHECKING:
    from aimass.core.events import Envelope
    from aimass.training.run import Run

INCIDENTS = frozenset(
    {
        "checkpoint_failed",
        "diverged",
        "driver_paused",
        "fit_judged",
        "gradient_refused",
        "lease_reassigned",
        "rolled_back",
        "supernode_replaced",
        "webhook_failed",
        "worker_lost",
        "worker_recovered",
        "worker_stalled",
        "worker_stuck",
    }
)
"""The types of events that tell of something that was not well, or is well again."""


_STATES = ("compute", "exchange", "wait", "idle")


def describe_health(run: Run, incidents: list[dict[str, Any]]) -> dict[str, Any]:
    """What `aimass runs health --json` prints.

    Args:
        run: whose.
        incidents: its events of the types above, as they are written.
    """
    metrics = run.summary()["metrics"] or {}
    told = {name: metrics.get(name) for name in ("rollbacks", "rate_factor", "fit")}
    return {"id": run.id, "state": run.state, **told, "incidents": incidents, "samples": run.samples()}


def print_samples(events: list[Envelope]) -> None:
    """What each process cost and got done when it was last looked at, and the most memory that it was seen with."""
    samples = [event.data for event in events if event.type == "workers_sampled"]
    if not samples:
        return
    largest: dict[int | None, int] = {}
    for sample in samples:
        for process in (sample["driver"], *sample["workers"]):
            worker = process.get("worker")
            largest[worker] = max(largest.get(worker, 0), process["rss_bytes"])
    rows = []
    for process in (*samples[-1]["workers"], samples[-1]["driver"]):
        worker = process.get("worker")
        rate = process.get("rows_per_s")
        cells = (f"{process['cpu_percent']:.0f} %", size(process["rss_bytes"]), size(largest[worker]))
        who = "driver" if worker is None else f"worker {worker}"
        rows.append((who, process["pid"], *cells, None if rate is None else f"{rate:,.0f}", number(process.get("loss"))))
    header = ("process", "pid", "CPU", "memory", "at most", "rows/s", "loss")
    print_table(header, rows, right=header[1:])


def print_states(events: list[Envelope]) -> None:
    """What each worker was at when an epoch was told of last, and how long it had been at what."""
    told = [event.data for event in events if event.type == "worker_states"]
    if told:
        header = ("worker", "state", "clock of p", "iteration", "COMPUTE s", "EXCHANGE s", "WAIT s", "IDLE s")
        rows = [
            (w["worker"], w["state"], f"{w['clock']:,}", f"{w['iteration']:,}", *(f"{w[f'{name}_s']:.3f}" for name in _STATES))
            for w in told[-1]["workers"]
        ]
        print_table(header, rows, right=(header[0], *header[2:]))
