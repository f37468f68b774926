"""Random slices of rows: which rows are whose, from a row's number alone, the same in every process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def slices_of(rows: NDArray[np.int64], seed: int, num_slices: int, share: float | None = None) -> NDArray[np.bool_]:
    """Whether each row lies in each slice. bool (num_slices, num_rows).

    Args:
        rows: their numbers in the data set. int64 (num_rows,).
        seed: of the slices.
        num_slices: how many there are.
        share: of all rows that each slice holds, whatever the others hold; None cuts the rows into slices, each row in one.

    >>> slices_of(np.arange(6), 0, 2).sum(axis=0).tolist()
    [1, 1, 1, 1, 1, 1]

    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014 (the mixing of bits).
    """
    if share is None:
        owners = np.minimum((_uniform(rows, seed, 0) * num_slices).astype(np.int64), num_slices - 1)
        return np.asarray(owners[None, :] == np.arange(num_slices)[:, None])
    return np.stack([_uniform(rows, seed, index + 1) < share for index in range(num_slices)])


def _uniform(rows: NDArray[np.int64], seed: int, stream: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each row, seed and stream."""
    keys = np.asarray([seed, stream], dtype=np.uint64)
    with np.errstate(over="ignore"):
        bits = _mixed(_mixed(_mixed(keys[:1]) + keys[1:]) + rows.astype(np.uint64))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values + _STEP
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))
