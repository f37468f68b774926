"""What jobs may take of this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aimass.core.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
DRIVER_BYTES, WORKER_BYTES = 1_000_000_000, 500_000_000
_LEAST_BYTES = 200_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What all jobs together may take at once.

    Args:
        cpus: processors.
        memory_bytes: main memory.
    """

    cpus: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one job may take."""

    cpus: float
    memory_bytes: int


def share_of(workers: int, cpus: float | None, memory: str | int | None, limits: Limits) -> Share:
    """What a job gets: what it asks for, or what its workers need.

    Raises:
        UsageError: it is more than there will ever be, or too little to start.

    >>> share_of(2, None, "3GB", Limits(cpus=4, memory_bytes=8 * 10**9))
    Share(cpus=2.0, memory_bytes=3000000000)
    """
    share = Share(
        cpus=float(max(1, workers) if cpus is None else cpus),
        memory_bytes=DRIVER_BYTES + WORKER_BYTES * workers if memory is None else size_bytes(memory),
    )
    if not 0 < share.cpus <= limits.cpus:
        raise UsageError(f"cpus={share.cpus:g}: a job gets more than 0 and at most the {limits.cpus:g} processors that jobs may use here")
    if not _LEAST_BYTES <= share.memory_bytes <= limits.memory_bytes:
        raise UsageError(
            f"memory={share.memory_bytes / 1e9:g} GB: a job gets from {_LEAST_BYTES / 1e9:g} GB to the "
            f"{limits.memory_bytes / 1e9:.3g} GB that jobs may use here"
        )
    return share


def size_bytes(value: str | int) -> int:
    """Read a size: a number of bytes, or a number with KB, MB, GB or TB.

    >>> size_bytes("2GB"), size_bytes(4096)
    (2000000000, 4096)
    """
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise UsageError(f"memory={value!r}: give a number of bytes, or a number with KB, MB, GB or TB, such as '2GB'")
    return int(float(match[1]) * _UNITS[match[2].lower()])
