"""Samples: what each process of a run costs and what it gets done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass
class _Seen:
    """What was counted when a process was looked at last."""

    pid: int
    when: float
    cpu_s: float
    rows: int
    loss: float
    loss_weight: float


class Sampler:
    """Turns counts into rates: each sample covers the time since the one before."""

    def __init__(self) -> None:
        self._seen: dict[int | None, _Seen] = {}

    def see(self, worker: int | None, pid: int, counted: tuple[int, float, float] | None) -> dict[str, Any] | None:
        """Sample one process. The first time there is nothing to compare with, and None is returned; so it is when it is gone.

        Args:
            worker: its slot, or None for the run's own process.
            pid: the process.
            counted: rows, sum of losses times weights, and the weight of that sum, so far; None for one that trains on none.

        Returns:
            `pid`, `cpu_percent` (100 is one core), `rss_bytes`, and of one that trains `rows_per_s` and `loss`, the mean over the rows
            since the last sample.
        """
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times, rss_bytes = process.cpu_times(), process.memory_info().rss
        except psutil.Error:
            self._seen.pop(worker, None)
            return None
        rows, loss, loss_weight = counted or (0, 0.0, 0.0)
        now = _Seen(pid, time.monotonic(), times.user + times.system, rows, loss, loss_weight)
        before = self._seen.get(worker)
        self._seen[worker] = now
        if before is None or before.pid != pid:
            return None
        elapsed_s = max(now.when - before.when, 1e-9)
        sample: dict[str, Any] = {
            "pid": pid,
            "cpu_percent": round(100 * (now.cpu_s - before.cpu_s) / elapsed_s, 1),
            "rss_bytes": rss_bytes,
        }
        if counted is not None:
            if rows < before.rows:  # the run went back, and counts anew
                before = _Seen(pid, before.when, before.cpu_s, 0, 0.0, 0.0)
            learnt = loss_weight - before.loss_weight
            sample["rows_per_s"] = round((rows - before.rows) / elapsed_s, 1)
            sample["loss"] = (loss - before.loss) / learnt if learnt > 0 else None
        return sample
