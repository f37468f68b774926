"""How the rows of one exchange are divided among a group's members: by the speed that was measured of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

_LEAST_SHARE = 8  # nobody gets less than an eighth of an even share, so that it stays measured
_SMOOTHING = 0.1
_UNEVEN, _TOWARDS_EVEN = 1.2, 0.1


def divide(shares: Sequence[float], times: Sequence[float]) -> list[float]:
    """The share of each member from now on, of 1 in all, from the times that its last ones took.

        f_i ← (f_i / t_i) / Σ (f / t)          where the slowest took over a fifth longer than the mean
        f_i ← f_i + 1/10 (1/m − f_i)           otherwise

    but at least 1/8 m of m members. The way back to even shares matters where a gradient takes as long for few rows as for many: then all
    end together whatever their shares, and these would drift wherever chance leads them.

    Args:
        shares: f of each member; 0 for one that had none, which counts as an even one.
        times: t of each member, in whatever unit; 0 where it is not known, which counts as the mean of those that are.

    >>> [round(share, 3) for share in divide([0.5, 0.5], [1.0, 3.0])]
    [0.75, 0.25]
    >>> divide([0.0, 0.0], [0.0, 0.0]), [round(share, 3) for share in divide([0.75, 0.25], [1.0, 1.1])]
    ([0.5, 0.5], [0.725, 0.275])
    """
    even = 1 / len(shares)
    filled = [share if share > 0 else even for share in shares]
    now = [share / sum(filled) for share in filled]
    known = [time for time in times if time > 0]
    if not known:
        return now
    mean = sum(known) / len(known)
    if max(known) > _UNEVEN * mean:
        speeds = [share / (time if time > 0 else mean) for share, time in zip(now, times, strict=True)]
        moved = [speed / sum(speeds) for speed in speeds]
    else:
        moved = [share + _TOWARDS_EVEN * (even - share) for share in now]
    kept = [max(share, even / _LEAST_SHARE) for share in moved]
    return [share / sum(kept) for share in kept]


def cut(num_units: int, shares: Sequence[float]) -> list[tuple[int, int]]:
    """Where each member's part of the work starts and stops.

    Args:
        num_units: what there is to do: rows, or batches.
        shares: of each member, of 1 in all.

    >>> cut(12, [1 / 6, 2 / 6, 3 / 6]), cut(9, [0.5, 0.5]), cut(1, [0.5, 0.5])
    ([(0, 2), (2, 6), (6, 12)], [(0, 5), (5, 9)], [(0, 1), (1, 1)])
    """
    ends = [min(num_units, int(num_units * part + 0.5)) for part in accumulate(shares)]
    return list(pairwise([0, *ends[:-1], num_units]))


def smooth(before: float, now: float) -> float:
    """A speed after one more measurement, in which old ones fade.

        1/v ← 0.9/v + 0.1/v_now

    Times are averaged and not speeds, so that one short moment of rest does not pass for a fast worker.

    >>> smooth(0.0, 100.0), round(smooth(100.0, 50.0), 1)
    (100.0, 90.9)
    """
    return 1 / ((1 - _SMOOTHING) / before + _SMOOTHING / now) if before > 0 else now
