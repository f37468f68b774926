"""How stale the gradients of a run were, what its workers moved and what its servers had to do, as commands show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from aimass.cli.output import print_table, size


def staleness_line(metrics: Mapping[str, Any]) -> str | None:
    """How stale gradients were; None where none could be.

    >>> staleness_line({"staleness": [6, 3, 1], "staleness_mean": 0.5, "staleness_most": 2, "largest_lead": 3, "held_back_s": 1.5})
    '0.50 on average, 2 at most; leads of up to 3 exchanges, workers held back for 1.5 s'
    """
    if not metrics.get("staleness_most") and metrics.get("largest_lead") is None:
        return None
    line = f"{metrics['staleness_mean'] or 0:.2f} on average, {metrics['staleness_most']:,} at most"
    if (lead := metrics.get("largest_lead")) is not None:
        line += f"; leads of up to {lead:,} exchange{'s' * (lead != 1)}, workers held back for {metrics['held_back_s']:.1f} s"
    return line


def traffic_line(metrics: Mapping[str, Any]) -> str | None:
    """What the workers of a run sent and received; None where nothing was.

    >>> traffic_line({"bytes_sent": 41_300, "bytes_received": 2_500_000})
    '41.3 kB sent, 2.5 MB received'
    """
    sent, received = metrics.get("bytes_sent", 0), metrics.get("bytes_received", 0)
    return f"{size(sent)} sent, {size(received)} received" if sent or received else None


def histogram(counts: list[int], most: int) -> str:
    """How many pushes were how stale. The last bin holds all that were staler.

    >>> histogram([6, 3, 0, 1], most=3)
    '0: 6, 1: 3, 3: 1'
    """
    last = len(counts) - 1
    bins = [(f"{n} and more" if n == last < most else f"{n}", count) for n, count in enumerate(counts) if count]
    return ", ".join(f"{name}: {count:,}" for name, count in bins)


def print_servers(metrics: Mapping[str, Any]) -> None:
    """A table of each server's load, where a number of servers was asked for."""
    servers = metrics.get("servers") or []
    if servers:
        header = ("server", "parameters", "steps", "MB moved", "busy s", "waited for s")
        rows = [
            (n, f"{s['parameters']:,}", f"{s['steps']:,}", f"{s['bytes'] / 1e6:,.1f}", f"{s['busy_s']:.3f}", f"{s['waited_s']:.3f}")
            for n, s in enumerate(servers)
        ]
        print_table(header, rows, right=header)


def print_groups(metrics: Mapping[str, Any]) -> None:
    """A table of the workers of each group, where they form groups."""
    groups = metrics.get("groups") or []
    if groups:
        header = ("group", "worker", "pid", "rows", "rows/s", "turns", "clock")
        rows = []
        for group in groups:
            for member in group["members"]:
                leads = " leads" if member["worker"] == group["supernode"] else ""
                figures = (f"{member[name]:,}" for name in ("rows", "rows_per_s", "turns", "clock"))
                rows.append((group["group"], f"{member['worker']}{leads}", member["pid"], *figures))
        print_table(header, rows, right=header[2:])
        moved = f"{size(metrics['root_bytes_sent'])} sent to the root, {size(metrics['root_bytes_received'])} received from it"
        typer.echo(f"{len(groups):,} group{'s' * (len(groups) != 1)}, {sum(group['exchanges'] for group in groups):,} exchanges; {moved}")


def print_shares(metrics: Mapping[str, Any]) -> None:
    """A table of what each worker computed, where rounds are shared out by how fast the workers are."""
    shares = metrics.get("shares") or []
    if shares:
        header, rows_in_all = ("worker", "rows", "share", "rows/s", "busy s"), sum(share["rows"] for share in shares) or 1
        rows = [
            (n, f"{s['rows']:,}", f"{s['rows'] / rows_in_all:.0%}", f"{s['rows_per_s']:,.0f}", f"{s['busy_s']:.3f}")
            for n, s in enumerate(shares)
        ]
        print_table(header, rows, right=header)
