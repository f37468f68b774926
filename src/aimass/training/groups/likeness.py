"""Which workers are alike: groups in which speeds differ as little as they can."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import exp, log


def unlikeness(speeds: Mapping[int, float], groups: Mapping[int, int]) -> float:
    """How many times as fast the fastest of a group is as its slowest: the geometric mean over the groups.

    Args:
        speeds: of each worker, above 0.
        groups: in which each is.

    >>> round(unlikeness({0: 4.0, 1: 1.0, 2: 3.0, 3: 3.0}, {0: 0, 1: 0, 2: 1, 3: 1}), 3)
    2.0
    """
    names = set(groups.values())
    members = [[speeds[worker] for worker in groups if groups[worker] == name] for name in names]
    return exp(sum(log(max(those) / min(those)) for those in members) / len(names))


def alike(speeds: Mapping[int, float], groups: Mapping[int, int]) -> dict[int, int]:
    """Groups of the same sizes that have the least `unlikeness`. Each keeps its name where most of its workers stay.

    Neighbours in the order of speed go together; where groups are of two sizes, all ways of cutting that order are looked at.

    Args:
        speeds: of each worker, above 0.
        groups: in which each is; no group is larger by two than another.

    >>> alike({0: 3.0, 1: 1.0, 2: 3.1, 3: 1.1}, {0: 0, 1: 0, 2: 1, 3: 1})
    {0: 0, 1: 1, 2: 0, 3: 1}
    >>> alike({0: 1.0, 1: 3.0, 2: 1.0, 3: 3.0, 4: 3.0}, {0: 0, 1: 0, 2: 1, 3: 1, 4: 1})
    {0: 0, 1: 1, 2: 0, 3: 1, 4: 1}
    """
    order = sorted(speeds, key=lambda worker: -speeds[worker])
    cuts = _cut([log(speeds[worker]) for worker in order], list(Counter(groups.values()).values()))
    together = [order[start:stop] for start, stop in pairwise(cuts)]
    names = _name(together, groups)
    return dict(sorted((worker, name) for name, those in zip(names, together, strict=True) for worker in those))


def _cut(falling: Sequence[float], sizes: Sequence[int]) -> tuple[int, ...]:
    """Where to cut numbers that fall, so that the differences of the first and the last of each stretch add up to the least."""
    found: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, (0,))}  # by how many numbers are in the stretches so far
    for _ in sizes:
        before, found = found, {}
        for start, (cost, cuts) in before.items():
            for stop in {start + size for size in sizes if start + size <= len(falling)}:
                longer = cost + falling[start] - falling[stop - 1], (*cuts, stop)
                found[stop] = min(longer, found.get(stop, longer))
    return found[len(falling)][1]


def _name(together: Sequence[Sequence[int]], groups: Mapping[int, int]) -> list[int]:
    """The names of groups, each where most of its workers had that name before."""
    names: dict[int, int] = {}
    stay = [
        (-sum(groups[worker] == name for worker in those), at, name) for at, those in enumerate(together) for name in set(groups.values())
    ]
    for _, at, name in sorted(stay):
        if at not in names and name not in names.values():
            names[at] = name
    return [names[at] for at in range(len(together))]
