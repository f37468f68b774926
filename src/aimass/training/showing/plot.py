"""The learning curve as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from aimass.core.errors import TrainingError, UsageError
from aimass.core.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_history(history: Sequence[dict[str, Any]], path: Path, title: str, primary: str) -> Path:
    """Draw the losses, and the primary metric beside them, over the epochs.

    Args:
        history: epochs, as `EpochEnded` has them.
        path: the file to write; its ending says the format (`.png`, `.svg`, `.pdf`).
        title: what stands above.
        primary: the metric of the right axis.

    Raises:
        TrainingError: no epoch has ended yet.
        UsageError: the format is not known.
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not history:
        raise TrainingError("there is no curve to draw yet: no epoch has ended")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    epochs = [epoch["epoch"] for epoch in history]
    marker = "o" if len(epochs) < 40 else None
    lines = axes.plot(epochs, [_or_gap(e["train_loss"]) for e in history], color="tab:blue", marker=marker, label="training loss")
    if any("loss" in e["validation"] for e in history):
        values = [_or_gap(e["validation"].get("loss")) for e in history]
        lines += axes.plot(epochs, values, color="tab:orange", marker=marker, label="validation loss")
    axes.set(xlabel="epoch", ylabel="loss", title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if any(primary in e["validation"] for e in history):
        right = axes.twinx()
        values = [_or_gap(e["validation"].get(primary)) for e in history]
        lines += right.plot(epochs, values, color="tab:green", linestyle="--", marker=marker, label=f"validation {primary}")
        right.set_ylabel(primary)
    axes.legend(handles=lines, loc="center right")
    supported = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in supported:
        raise UsageError(f"a plot cannot be written as {path.name!r}; end the name in .png, .svg or .pdf")
    return write_figure(figure, path)


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a drawing in the format that its name ends in, whole or not at all."""
    picture = BytesIO()
    with catch_warnings():
        simplefilter("ignore", UserWarning)  # a name in a script that no font here has is drawn as boxes
        figure.savefig(picture, dpi=150, format=path.suffix[1:].lower())
    write_whole(path, picture.getvalue())
    return path


def _or_gap(value: float | None) -> float:
    return float("nan") if value is None else value
