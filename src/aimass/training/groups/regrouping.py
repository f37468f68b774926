"""The driver's eye on how fast the members of each group are: it sends workers to groups of their like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimass.parameters.groups import GroupServer
from aimass.parameters.views.members import PRESENT, SPEED, TURNS
from aimass.training.events import GroupsFormed
from aimass.training.groups.likeness import alike, unlikeness

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOOK_TURNS, _LOOKS = 6, 3
_CLEARLY = 1.4


class Regrouping:
    """Moves workers where groups of like ones would be clearly more alike.

    It looks after six further shares of each member, and acts on the third look in a row in which the `unlikeness` is over 1.4 times the
    least that it could be: what chance brings about in one moment is gone in the next. It does nothing while workers are missing or on
    their way.

    Args:
        server: the driver's.
    """

    def __init__(self, server: GroupServer) -> None:
        self._server, self._slots = server, range(server.layout.num_workers)
        self._at = [server.layout.slot(slot) for slot in self._slots]
        self._turns = [0] * len(self._at)
        self._looks = 0

    def look(self) -> GroupsFormed | None:
        """See whether it is time, and what the speeds say; and tell of it where workers shall move."""
        server, words = self._server, self._server.words
        turns = [words[at + TURNS] for at in self._at]
        if any(now < before for now, before in zip(turns, self._turns, strict=True)):  # the run went back
            self._turns, self._looks = turns, 0
        if any(now < before + _LOOK_TURNS for now, before in zip(turns, self._turns, strict=True)):
            return None
        groups = {slot: server.group_of(slot) for slot in self._slots}
        speeds = {slot: server.reals[at + SPEED] for slot, at in zip(self._slots, self._at, strict=True)}
        if not all(words[at + PRESENT] for at in self._at) or any(server.assigned(slot) != groups[slot] for slot in self._slots):
            return None
        if min(speeds.values()) <= 0:
            return None
        self._turns = turns
        new = alike(speeds, groups)
        before, after = unlikeness(speeds, groups), unlikeness(speeds, new)
        self._looks = self._looks + 1 if before > _CLEARLY * after else 0
        if self._looks < _LOOKS:
            return None
        self._looks = 0
        server.assign(new)
        return _formed(new, groups, speeds, after, before)


def _formed(new: Mapping[int, int], old: Mapping[int, int], speeds: Mapping[int, float], unlike: float, before: float) -> GroupsFormed:
    groups = []
    for group in sorted(set(new.values())):
        workers = sorted(worker for worker in new if new[worker] == group)
        groups.append({"group": group, "workers": workers, "rows_per_s": [round(speeds[worker], 1) for worker in workers]})
    moved = sorted(worker for worker in new if new[worker] != old[worker])
    return GroupsFormed(groups=groups, moved=moved, unlike=round(unlike, 3), before=round(before, 3))
