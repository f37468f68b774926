"""Overfitting and underfitting, told from the curves of the training and the validation loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from aimass.models.losses import ABSOLUTE, HUBER, SQUARED, loss_for

if TYPE_CHECKING:
    from aimass.data.batch import Encoded

_LAST = 3  # epochs whose median stands for a moment of the curve
_RISE = 0.2
_FALL = 0.1
_FLAT_EPOCHS = 8
_FLAT = 0.03
_STILL_FALLS = 0.005
_POOR = 0.9


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the curves say.

    Args:
        verdict: `overfitting` or `underfitting`.
        since_epoch: from which epoch on.
        message: by how much, and what to do.
    """

    verdict: str
    since_epoch: int
    message: str


def judge(history: Sequence[dict[str, Any]], guess: float | None, num_validation: int) -> Verdict | None:
    """Say whether a run overfits, underfits, or neither.

    *Overfitting*: the median validation loss of the last three epochs is over 1.2 times the lowest such median, and above it by more than
    G / √n, which is about what n validation rows can tell, while the training loss has fallen by a tenth since then.

    *Underfitting*: in each of the last eight epochs the training loss was within 3 % of their mean, the later four were less than 0.5 %
    below the earlier four, and the mean is over 0.9 G.

    Args:
        history: the epochs, as `EpochEnded` has them.
        guess: G, the loss of the best constant answer on the training rows, where it is known.
        num_validation: n, the validation rows.

    >>> def epoch(number, train, validation):
    ...     return {"epoch": number, "train_loss": train, "validation": {"loss": validation}}
    >>> judge([epoch(n, 1 / n, 0.5 + 0.1 * n) for n in range(1, 9)], guess=0.7, num_validation=100).verdict
    'overfitting'
    >>> judge([epoch(n, 0.69, 0.70) for n in range(1, 10)], guess=0.693, num_validation=100).verdict
    'underfitting'
    >>> judge([epoch(n, 1 / n, 1.1 / n) for n in range(1, 9)], guess=0.7, num_validation=100) is None
    True
    """
    epochs = [epoch for epoch in history if epoch["train_loss"] is not None]
    return _underfitting(epochs, guess) or _overfitting(epochs, guess, num_validation)


def _overfitting(epochs: list[dict[str, Any]], guess: float | None, num_validation: int) -> Verdict | None:
    seen = [epoch for epoch in epochs if "loss" in epoch["validation"]]
    if len(seen) < 2 * _LAST:
        return None
    train = _medians([epoch["train_loss"] for epoch in seen])
    validation = _medians([epoch["validation"]["loss"] for epoch in seen])
    best = min(range(len(validation)), key=validation.__getitem__)
    rise, fall = validation[-1] - validation[best], train[best] - train[-1]
    scale = guess if guess is not None else train[0]
    if validation[best] <= 0 or rise < max(_RISE * validation[best], scale / sqrt(max(1, num_validation))) or fall < _FALL * train[best]:
        return None
    since = seen[best + _LAST // 2]["epoch"]
    return Verdict(
        verdict="overfitting",
        since_epoch=since,
        message=(
            f"overfitting since epoch {since}: the validation loss rose by {rise / validation[best]:.0%}, from {validation[best]:.4g} to "
            f"{validation[-1]:.4g}, while the training loss fell from {train[best]:.4g} to {train[-1]:.4g}; "
            "keep the best epoch with stop.patience, or use more data, more weight decay or dropout, or a smaller model"
        ),
    )


def _underfitting(epochs: list[dict[str, Any]], guess: float | None) -> Verdict | None:
    losses = [float(epoch["train_loss"]) for epoch in epochs]
    if guess is None or guess <= 0 or len(losses) <= _FLAT_EPOCHS:
        return None
    mean = sum(losses[-_FLAT_EPOCHS:]) / _FLAT_EPOCHS
    earlier, later = losses[-_FLAT_EPOCHS : -_FLAT_EPOCHS // 2], losses[-_FLAT_EPOCHS // 2 :]
    falls = sum(earlier) - sum(later) > _STILL_FALLS * sum(later)
    if mean < _POOR * guess or falls or any(abs(loss - mean) > _FLAT * mean for loss in earlier + later):
        return None
    first = len(losses) - _FLAT_EPOCHS
    while first and abs(losses[first - 1] - mean) <= _FLAT * mean:
        first -= 1
    since = epochs[first]["epoch"]
    return Verdict(
        verdict="underfitting",
        since_epoch=since,
        message=(
            f"underfitting since epoch {since}: the training loss stays at {mean:.4g}, {mean / guess:.0%} of the {guess:.4g} that the same "
            "answer for every row costs; use a larger model, another optimizer.lr, less weight decay, or columns that tell more"
        ),
    )


def _medians(values: list[float]) -> list[float]:
    return [median(values[start : start + _LAST]) for start in range(len(values) - _LAST + 1)]


def loss_of_guessing(task: str, encoded: Encoded, loss: str | None = None) -> float | None:
    """G, the loss of the best constant answer on the training rows: the entropy of the classes, or the variance of the targets. With
    another loss it is the classes' Gini impurity, or the mean distance from the targets' median; of `huber` it is not known.

    Args:
        task: `binary`, `multiclass`, `regression` or `language`.
        encoded: rows with targets.
        loss: the task's, by default its first.
    """
    targets, loss = encoded.targets, loss_for(task, loss)
    weights = None if encoded.weights is None else np.asarray(encoded.weights, dtype=np.float64)
    if targets is None or not len(targets) or (weights is not None and not weights.sum() > 0):
        return None
    if loss == HUBER:
        return None
    if loss == ABSOLUTE:
        order, share = np.argsort(targets), np.ones(len(targets)) if weights is None else weights
        reached = np.cumsum(share[order])
        median_target = targets[order][np.searchsorted(reached, reached[-1] / 2)]
        return float(np.average(np.abs(targets - median_target), weights=weights))
    if task == "regression":
        mean = np.average(targets, weights=weights)
        return float(np.average((targets - mean) ** 2, weights=weights))
    shares = np.bincount(targets.ravel(), weights=weights)
    shares = shares[shares > 0] / shares.sum()
    if loss == SQUARED:
        return float(1 - np.square(shares).sum()) / (2 if task == "binary" else 1)
    return float(-(shares * np.log(shares)).sum())
