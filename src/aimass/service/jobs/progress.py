"""The newest figures of a job, for lists and bars."""

from __future__ import annotations

from typing import Any

from aimass.core.events import Envelope

_STARTED = ("data", "rows", "parameters", "strategy", "epochs", "total_steps", "batches_per_epoch")


def advance(progress: dict[str, Any] | None, event: Envelope) -> dict[str, Any] | None:
    """The figures after one more event.

    >>> said = {"step": 5, "epoch": 0.5, "rows": 160, "rows_per_s": 80.0, "workers": 2, "loss": 0.7}
    >>> advance(None, Envelope(run="r", seq=1, time=9.0, type="progress", data=said))["step"]
    5
    """
    known, data = dict(progress or {}), event.data
    if event.type == "run_started":
        known |= {name: data.get(name) for name in _STARTED}
        known |= {"step": data.get("resumed_at_step") or 0, "workers": data.get("workers")}
    elif event.type == "progress":
        known |= {name: data[name] for name in ("step", "epoch", "rows_per_s")}
        known["loss"] = known.get("loss") if data["loss"] is None else data["loss"]
    elif event.type == "epoch":
        known |= {"step": data["step"], "validation": data["validation"], "elapsed_s": data["elapsed_s"]}
        known["loss"] = known.get("loss") if data["train_loss"] is None else data["train_loss"]
    else:
        return progress
    return {**known, "time": event.time}
