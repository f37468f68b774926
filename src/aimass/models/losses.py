"""Which losses each task knows, by name, and the metric that says which of two models is the better one. Nothing here imports torch."""

from __future__ import annotations

from typing import Any, Literal

from aimass.core.errors import UsageError, unknown_name

CROSS_ENTROPY, SQUARED, ABSOLUTE, HUBER = "cross_entropy", "squared_error", "absolute_error", "huber"

LOSSES = {
    "binary": (CROSS_ENTROPY, SQUARED),
    "multiclass": (CROSS_ENTROPY, SQUARED),
    "regression": (SQUARED, ABSOLUTE, HUBER),
    "language": (CROSS_ENTROPY,),
}
"""The losses of each task; the first is what it has by default."""

PRIMARY: dict[str, tuple[str, Literal["max", "min"]]] = {
    "binary": ("accuracy", "max"),
    "multiclass": ("accuracy", "max"),
    "regression": ("rmse", "min"),
    "language": ("bits_per_byte", "min"),
}
"""The metric that each task is judged by, and which of its ends is the better one."""

ALIASES = {"log_loss": CROSS_ENTROPY, "brier": SQUARED, "mse": SQUARED, "l2": SQUARED, "mae": ABSOLUTE, "l1": ABSOLUTE}
"""What they are called too."""


def read_loss(value: Any) -> Any:
    """A loss's own name, from any that it has.

    Raises:
        UsageError: there is no such loss.

    >>> read_loss("log_loss"), read_loss(None)
    ('cross_entropy', None)
    """
    if value is None:
        return None
    text = str(value).strip().lower()
    name = ALIASES.get(text, text)
    known = sorted({name for names in LOSSES.values() for name in names})
    if name not in known:
        raise unknown_name("loss", value, known, also=ALIASES)
    return name


def loss_for(task: str, name: str | None) -> str:
    """The loss that a task has, where one of this name is asked for, or none in particular.

    Raises:
        UsageError: that is no loss of this task.

    >>> loss_for("regression", None), loss_for("binary", "squared_error")
    ('squared_error', 'squared_error')
    """
    if name is None:
        return LOSSES[task][0]
    if name not in LOSSES[task]:
        raise UsageError(f"loss={name!r} is none of the task {task!r}; leave it out, or choose one of: {', '.join(LOSSES[task])}")
    return name
