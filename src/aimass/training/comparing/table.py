"""A comparison as a table, and the lines below it."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimass.training.comparing.outcome import Comparison


def header(found: Comparison) -> tuple[str, ...]:
    """The columns' names."""
    before = ("strategy", "workers", "epochs to target", "s to target", "s in all", "loss")
    return (*before, found.metric[0], "MB moved", "stale by", "lost")


def row(figures: dict[str, Any]) -> tuple[str | None, ...]:
    """One of `Comparison.rows` as text for each column; None where there is nothing to say."""
    moved = (figures["bytes_sent"] or 0) + (figures["bytes_received"] or 0)
    return (
        figures["strategy"],
        f"{figures['workers']}",
        _number(figures["epochs_to_target"]),
        _seconds(figures["s_to_target"]),
        _seconds(figures["elapsed_s"]),
        _measure(figures["loss"]),
        _measure(figures["metric"]),
        (f"{moved / 1e6:,.1f}" if moved >= 1e6 else f"{moved / 1e6:.2g}") if moved else None,
        f"{figures['staleness_mean']:.2f}, most {figures['staleness_most']:.0f}" if figures["staleness_most"] else None,
        f"{figures['workers_lost']:.0f}" if figures["workers_lost"] else None,
    )


def lines(found: Comparison) -> list[str]:
    """What stands below the table: what was compared, to which target, and what else is to be said of whom."""
    hard = "".join(f"; {what}" for what in found.adversity)
    below = [f"model       {found.model}, seed {found.seed}, on {found.data}{hard}"]
    if found.target is not None:
        how = "asked for" if found.asked_target is not None else "the lowest that every run reached"
        below.append(f"target      {found.loss_of} loss {_number(found.target)}, {how}")
    below += [f"note        {one['strategy']}: {remark}" for one in found.rows() for remark in one["remarks"]]
    runs = [f"{one.strategy} {', '.join(known)}" for one in found.entries if (known := [trial.run for trial in one.trials if trial.run])]
    below += [f"{'runs' if number == 0 else '':<12}{line}" for number, line in enumerate(runs)]
    below += ["            aimass runs show ID tells more of one"] * bool(runs)
    return below + [f"left out    {strategy}: {why}" for strategy, why in found.cannot.items()]


def as_text(found: Comparison) -> str:
    """All of it, as one text."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in header(found):
        table.add_column(name, justify="left" if name == "strategy" else "right")
    for figures in found.rows():
        table.add_row(*[text or "" for text in row(figures)])
    written = StringIO()
    Console(file=written, width=10_000, color_system=None).print(table, highlight=False, markup=False)
    return "\n".join([*(line.rstrip() for line in written.getvalue().splitlines()), "", *lines(found)])


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _measure(value: float | None) -> str | None:
    """Four decimals, so that those of a column stand below each other, but where it is too small or too large for them."""
    return None if value is None else f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"
