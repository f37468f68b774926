"""Cutting rows into training, validation and test, the same way every time for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aimass.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.int64]


def check_fractions(split: Sequence[float]) -> tuple[float, float, float]:
    """Three shares that make a whole.

    >>> check_fractions([0.7, 0.2, 0.1])
    (0.7, 0.2, 0.1)

    Raises:
        UsageError: they are not three, one is negative, none is left for training, or their sum is not 1.
    """
    try:
        train, validation, test = (float(share) for share in split)
    except (TypeError, ValueError):
        raise UsageError(f"split={split!r}: give three shares, of training, validation and test, such as (0.8, 0.1, 0.1)") from None
    if min(validation, test) < 0 or not train > 0 or abs(train + validation + test - 1) > 1e-6:
        raise UsageError(f"split={split!r}: three shares from 0 up, the first above 0, make 1 together, such as (0.8, 0.1, 0.1)")
    return train, validation, test


def split_sizes(num_rows: int, fractions: tuple[float, float, float], num_classes: int = 1) -> tuple[int, int, int]:
    """How many rows each split gets: shares to the nearest row, and at least one training row for each class.

    >>> split_sizes(1797, (0.8, 0.1, 0.1)), split_sizes(3, (0.8, 0.1, 0.1))
    ((1437, 180, 180), (3, 0, 0))
    """
    validation, test = (int(num_rows * share + 0.5) for share in fractions[1:])
    least = min(num_classes, num_rows)
    while num_rows - validation - test < least:
        if test >= validation:
            test -= 1
        else:
            validation -= 1
    return num_rows - validation - test, validation, test


def split_rows(
    num_rows: int, fractions: tuple[float, float, float], seed: int, classes: Ids | None = None, num_test: int = 0
) -> tuple[Ids, Ids, Ids]:
    """Cut the rows 0 … num_rows − 1 into three.

    With `classes` the cut is stratified. Row k of a class of n rows, in random order, gets the position (k + u) / n, where u is
    drawn once a class and the first row has position 0. Rows are sorted by position and cut by the sizes: each split gets its
    share of each class to the nearest row or the one beside it, and every class goes to training first.

    Args:
        num_rows: how many there are.
        fractions: the shares of training, validation and test.
        seed: decides the order; the same on every platform.
        classes: the class id of each row. int64 (num_rows,).
        num_test: how many of the last rows are the test split, since the source has one; the share of test then goes to training.

    Returns:
        the row numbers of training, validation and test, each ascending. int64.

    Raises:
        UsageError: the seed is negative.
    """
    import numpy as np

    if seed < 0:
        raise UsageError(f"seed={seed}: a seed is a whole number from 0 up")
    if num_test:
        rest, share = num_rows - num_test, fractions[1]
        both = split_rows(rest, (1 - share, share, 0.0), seed, None if classes is None else classes[:rest])
        return both[0], both[1], np.arange(rest, num_rows, dtype=np.int64)
    generator = np.random.Generator(np.random.PCG64(seed))
    order = generator.permutation(num_rows)
    num_classes = 1
    if classes is not None:
        num_classes = int(classes.max()) + 1
        order = order[np.argsort(_positions(classes[order], num_classes, generator), kind="stable")]
    train, validation, _ = split_sizes(num_rows, fractions, num_classes)
    cuts = np.split(order.astype(np.int64), [train, train + validation])
    return np.sort(cuts[0]), np.sort(cuts[1]), np.sort(cuts[2])


def _positions(classes: Ids, num_classes: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Where in [0, 1) each row stands within its class. (num_rows,)"""
    import numpy as np

    counts = np.bincount(classes, minlength=num_classes)
    by_class = np.argsort(classes, kind="stable")
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(classes), dtype=np.int64)
    ranks[by_class] = np.arange(len(classes)) - np.repeat(starts, counts)
    offsets = generator.random(num_classes)[classes]
    return np.where(ranks == 0, 0.0, (ranks + offsets) / counts[classes])
