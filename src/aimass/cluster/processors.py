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
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else -(-int(quota) // int(period))
