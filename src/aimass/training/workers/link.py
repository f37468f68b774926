"""A network link as slow as one likes: how long bytes take over it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aimass.core.errors import UsageError

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(k|m|g)bit(?:/s)?")
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s)")
_BYTES_PER_S = {"k": 1e3 / 8, "m": 1e6 / 8, "g": 1e9 / 8}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, kw_only=True)
class Link:
    """The link between a worker and whatever it exchanges with. It sends and receives at once, and no other worker is on it.

    Args:
        bytes_per_s: its bandwidth each way.
        latency_s: what each message takes besides.
    """

    bytes_per_s: float = float("inf")
    latency_s: float = 0.0

    def time_s(self, *, sent: int = 0, received: int = 0, messages: int = 1) -> float:
        """How long an exchange takes.

            messages · latency + max(sent, received) / bandwidth

        >>> round(Link(bytes_per_s=2.5e6, latency_s=0.05).time_s(sent=250_000), 6)
        0.15
        """
        return messages * self.latency_s + max(sent, received) / self.bytes_per_s

    def __str__(self) -> str:
        rate = [] if self.bytes_per_s == float("inf") else [f"{8e-6 * self.bytes_per_s:g} Mbit/s"]
        return " and ".join([*rate, *([f"{1e3 * self.latency_s:g} ms"] if self.latency_s else [])])


def read_link(value: str | Link | None) -> Link | None:
    """A link out of its bandwidth, its latency, or both: `"20mbit,50ms"`, `"1gbit"`, `"5ms"`.

    Raises:
        UsageError: it is written otherwise, or nothing could pass.

    >>> read_link("20mbit,50ms")
    Link(bytes_per_s=2500000.0, latency_s=0.05)
    """
    if value is None or isinstance(value, Link):
        return value
    parts = [part.strip().lower() for part in str(value).split(",")]
    rates = [match for part in parts if (match := _RATE.fullmatch(part))]
    times = [match for part in parts if (match := _TIME.fullmatch(part))]
    if len(rates) > 1 or len(times) > 1 or len(rates) + len(times) != len(parts):
        raise UsageError(f"link={value!r} is no link; write its bandwidth, its latency, or both, such as 20mbit,50ms")
    found = Link(
        bytes_per_s=float(rates[0][1]) * _BYTES_PER_S[rates[0][2]] if rates else float("inf"),
        latency_s=float(times[0][1]) * _SECONDS[times[0][2]] if times else 0.0,
    )
    if not found.bytes_per_s:
        raise UsageError(f"link={value!r} lets nothing pass; give a bandwidth above 0, such as 20mbit")
    return found
