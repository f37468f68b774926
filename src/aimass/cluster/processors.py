"""How many processors this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def num_processors(group: Path = _GROUP) -> int:
    """The processors that this process is bound to, or fewer where its control group gets less of their time.

    Args:
        group: where the control group's files are.

    >>> num_processors() >= 1
    True
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, _share(group) or bound))


def _share(group: Path) -> int | None:
    """What a control group allows, in whole processors; None where it allows everything."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # version 2, version 1
        try:
            quota, period = " ".join((group / name).read_text(encoding="ascii") for name in names).split()
        except (OSError, ValueError):
            continue
        return None if quota in ("max", "-1") else -(-int(quota) // int(period))
    return None
