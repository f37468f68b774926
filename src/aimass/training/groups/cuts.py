"""How the rows of one exchange are divided among a group's members: by the speed that was measured of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

_LEAST_SHARE = 8  # nobody gets less than an eighth of an even share, so that it stays measured
_SMOOTHING = 0.2


def cut(num_units: int, speeds: Sequence[float]) -> list[tuple[int, int]]:
    """Where each member's share starts and stops: as long as the member is fast, so that all end together.

        n_i ≈ n · v_i / Σ v,    but at least n / 8 m of m members, before rounding

    Args:
        num_units: n ≥ 0, what there is to do: rows, or batches.
        speeds: v of each member; 0 where it is not known, which counts as the mean of those that are.

    >>> cut(12, [1.0, 2.0, 3.0])
    [(0, 2), (2, 6), (6, 12)]
    >>> cut(9, [0.0, 0.0]), cut(64, [1.0, 1e9]), cut(1, [1.0, 1.0])
    ([(0, 5), (5, 9)], [(0, 4), (4, 64)], [(0, 1), (1, 1)])
    """
    known = [speed for speed in speeds if speed > 0]
    usual = sum(known) / len(known) if known else 1.0
    filled = [speed if speed > 0 else usual for speed in speeds]
    least = 1 / (_LEAST_SHARE * len(filled))
    shares = [max(speed / sum(filled), least) for speed in filled]
    total = sum(shares)
    ends = [min(num_units, int(num_units * part / total + 0.5)) for part in accumulate(shares)]
    return list(pairwise([0, *ends[:-1], num_units]))


def smooth(before: float, now: float) -> float:
    """A speed after one more measurement, in which old ones fade.

        1/v ← 0.8/v + 0.2/v_now

    Times are averaged and not speeds, so that one short moment of rest does not pass for a fast worker.

    >>> smooth(0.0, 100.0), round(smooth(100.0, 50.0), 1)
    (100.0, 83.3)
    """
    return 1 / ((1 - _SMOOTHING) / before + _SMOOTHING / now) if before > 0 else now
