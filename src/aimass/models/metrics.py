"""The figures of a finished model, over NumPy alone: scikit-learn's would cost every process that trains a second and 80 MB.

Throughout, `truth` is the known answers, `weights` how much each row counts (None: all alike), both of shape (num_rows,), and
W = Σ w. The tests hold each of them against scikit-learn.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Weights = NDArray[Any] | None


def accuracy(truth: NDArray[Any], decisions: NDArray[Any], weights: Weights = None) -> float:
    """The share of rows that are decided rightly: Σ w [decision = truth] / W.

    >>> accuracy(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]))
    0.75
    """
    return _mean(truth == decisions, weights)


def f1(truth: NDArray[Any], decisions: NDArray[Any], weights: Weights = None, *, positive: int = 1) -> float:
    """The harmonic mean of precision and recall of one class: 2 TP / (2 TP + FP + FN), and 0 where there is neither.

    >>> f1(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]))
    0.8
    """
    w = _or_ones(weights, truth)
    known, decided = truth == positive, decisions == positive
    both, either = float(w[known & decided].sum()), float(w[known].sum() + w[decided].sum())
    return 2 * both / either if either else 0.0


def macro_f1(truth: NDArray[Any], decisions: NDArray[Any], weights: Weights = None) -> float:
    """The mean of `f1` over the classes that are known or decided anywhere.

    >>> macro_f1(np.array([0, 1, 2]), np.array([0, 1, 1]))
    0.5555555555555555
    """
    classes = np.union1d(truth, decisions)
    return float(np.mean([f1(truth, decisions, weights, positive=number) for number in classes]))


def roc_auc(truth: NDArray[Any], scores: NDArray[Any], weights: Weights = None) -> float:
    """The chance that a positive row has a higher score than a negative one, where ties count half.

    AUC = Σ_{i positive} w_i (Σ_{j negative, s_j < s_i} w_j + ½ Σ_{j negative, s_j = s_i} w_j) / (W⁺ W⁻)

    Args:
        truth: 0 or 1; rows of both kinds have a positive weight.
        scores: higher where a row is more likely positive. Shape (num_rows,).
        weights: as above.

    >>> roc_auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75

    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 1982.
    """
    w = _or_ones(weights, truth)
    _, at = np.unique(scores, return_inverse=True)
    positive = np.bincount(at, weights=w * (truth == 1))
    negative = np.bincount(at, weights=w * (truth == 0))
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


def rmse(truth: NDArray[Any], predictions: NDArray[Any], weights: Weights = None) -> float:
    """The root of the mean squared error: √(Σ w (ŷ − y)² / W).

    >>> rmse(np.array([0.0, 0.0]), np.array([3.0, 4.0])) == 12.5**0.5
    True
    """
    return math.sqrt(_mean((truth - predictions) ** 2, weights))


def mae(truth: NDArray[Any], predictions: NDArray[Any], weights: Weights = None) -> float:
    """The mean absolute error: Σ w |ŷ − y| / W.

    >>> mae(np.array([0.0, 0.0]), np.array([3.0, 4.0]))
    3.5
    """
    return _mean(np.abs(truth - predictions), weights)


def r2(truth: NDArray[Any], predictions: NDArray[Any], weights: Weights = None) -> float:
    """How much of the spread is explained: 1 − Σ w (ŷ − y)² / Σ w (y − ȳ)². Of answers without spread, 1 where all are met, else 0.

    >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]))
    0.5
    """
    w = _or_ones(weights, truth)
    left = float((w * (truth - predictions) ** 2).sum())
    spread = float((w * (truth - _mean(truth, weights)) ** 2).sum())
    if spread:
        return 1 - left / spread
    return 0.0 if left else 1.0


def _mean(values: NDArray[Any], weights: Weights) -> float:
    return float(np.average(values, weights=None if weights is None else weights.astype(np.float64)))


def _or_ones(weights: Weights, truth: NDArray[Any]) -> NDArray[Any]:
    return np.ones(len(truth)) if weights is None else weights.astype(np.float64)
