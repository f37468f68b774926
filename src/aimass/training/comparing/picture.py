"""A comparison as a picture: the loss over time, and the loss over what was moved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.core.errors import TrainingError, UsageError
from aimass.training.showing.plot import write_figure

if TYPE_CHECKING:
    from aimass.training.comparing.outcome import Comparison, Point

FORMATS = (".png", ".svg", ".pdf")


def check_format(path: Path) -> Path:
    """See whether a picture can be written in this format.

    Raises:
        UsageError: it cannot.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path} cannot be drawn; end the name in .png, .svg or .pdf")
    return path


def draw(comparison: Comparison, path: Path) -> Path:
    """Write the picture, and give its path. A strategy that moved nothing has no curve over bytes."""
    from matplotlib.figure import Figure

    check_format(path)
    curves = [(entry.strategy, trial.points) for entry in comparison.ranking if (trial := entry.shown) is not None and trial.points]
    if not curves:
        raise TrainingError("there is nothing to draw: no run got as far as the end of an epoch")
    figure = Figure(figsize=(13.5, 4.8), layout="constrained")
    over_time, over_bytes = figure.subplots(1, 2, sharey=True)
    for number, (label, points) in enumerate(curves):
        style = {"color": f"C{number % 10}", "linestyle": ("-", "--", ":")[number // 10 % 3], "marker": "o" if len(points) < 40 else None}
        losses = [_or_gap(point) for point in points]
        over_time.plot([point.elapsed_s for point in points], losses, label=label, markersize=4, **style)
        if points[-1].bytes_moved:
            over_bytes.plot([point.bytes_moved / 1e6 for point in points], losses, markersize=4, **style)
    loss = f"{comparison.loss_of} loss"
    over_time.set(xlabel="seconds", ylabel=loss)
    over_bytes.set(xlabel="MB sent and received, by all workers")
    for axes in (over_time, over_bytes):
        axes.grid(alpha=0.3)
        if comparison.target is not None:
            axes.axhline(comparison.target, color="gray", linewidth=0.8, linestyle=":")
    _scale(over_time, over_bytes, curves)
    figure.legend(loc="outside right upper", fontsize="small", handlelength=3)
    hard = "".join(f"; {what}" for what in comparison.adversity)
    figure.suptitle(f"{comparison.data}: {comparison.model}, {comparison.workers} workers{hard}", fontsize="medium")
    return write_figure(figure, path)


def _scale(over_time: Any, over_bytes: Any, curves: list[tuple[str, tuple[Point, ...]]]) -> None:
    """Logarithmic axes where values lie far apart: losses, seconds and bytes."""
    from matplotlib.ticker import StrMethodFormatter

    losses = [point.loss for _, points in curves for point in points if point.loss is not None]
    if losses and min(losses) > 0 and max(losses) > 20 * min(losses):
        over_time.set_yscale("log")
    lasted = [points[-1].elapsed_s for _, points in curves]
    moved = [points[-1].bytes_moved for _, points in curves if points[-1].bytes_moved]
    for axes, ends in ((over_time, lasted), (over_bytes, moved)):
        if ends and max(ends) > 5 * min(ends) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _or_gap(point: Point) -> float:
    return float("nan") if point.loss is None else point.loss
