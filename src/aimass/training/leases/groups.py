"""Leases that belong to groups of workers: whoever is a group's supernode takes them, and its successor goes on with them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from aimass.parameters.groups import GroupServer
from aimass.parameters.layout import LEASE_COMMITTED, LEASE_DEADLINE_NS, LEASE_LOCK, LEASE_NUMBER, LEASE_OWNER, NOBODY, SLOT_PULLED
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.parameters.views.members import (
    EXCHANGE,
    EXCHANGES,
    HANDED_IN,
    PID,
    PRESENT,
    ROOT_RECEIVED,
    ROOT_SENT,
    ROWS_DONE,
    SHARE_DEADLINE_NS,
    SHARE_EXCHANGE,
    SPEED,
    TAKEN,
    TURNS,
)
from aimass.training.events import GroupsSeen, SupernodeReplaced
from aimass.training.groups.regrouping import Regrouping
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.table import Lease, LeaseTable, Released

if TYPE_CHECKING:
    from aimass.core.events import Event


class GroupTable(LeaseTable):
    """The leases of groups, as one process sees them.

    Args:
        server, plan, timeout_s: as for `LeaseTable`; the server is a `GroupServer`, and leases are owned by groups' slots.
        by_speed: whether the driver brings workers of like speed together, where those of the groups are not.
    """

    kills_late: ClassVar[bool] = True

    def __init__(self, server: SharedMemoryServer, plan: LeasePlan, timeout_s: float, *, by_speed: bool = False) -> None:
        super().__init__(server, plan, timeout_s)
        assert isinstance(server, GroupServer)
        self._groups, layout = server, server.layout
        self._of_group = [layout.slot(layout.group_slot(group)) for group in range(layout.num_groups)]
        self._of_worker = [layout.slot(slot) for slot in range(layout.num_workers)]
        self._seen = [(-1, 0)] * layout.num_groups  # the supernode of each group, and how often the role was taken, at the last look
        self._regrouping = Regrouping(server) if by_speed and layout.num_groups > 1 else None

    def claim(self, slot: int) -> Lease | None:
        """Take a lease for a group: what the last supernode left of one, or the next.

        Args:
            slot: the group's.
        """
        with self.server.locks.held(LEASE_LOCK):
            for index, at in enumerate(self._cells):
                number = self.words[at + LEASE_NUMBER]
                if self.words[at + LEASE_OWNER] == slot and self.words[at + LEASE_COMMITTED] < self.plan.num_batches(number):
                    return self._take(index, slot)
            return super().claim(slot)

    def release(self, slot: int) -> list[Released]:
        """A worker is gone: its group goes on without it, and where nobody is left, its leases go to other groups."""
        self.words[self._of_worker[slot] + PRESENT] = 0
        return self._groups.close(self._groups.group_of(slot), self.vacate) or []

    def vacate(self, group: int) -> list[Released]:
        """Give the leases of a group in which nobody is left to other groups."""
        return super().release(self.server.layout.group_slot(group))

    def expect(self, slot: int) -> None:
        """Put off until when a member should get on with its share."""
        self.words[self._of_worker[slot] + SHARE_DEADLINE_NS] = time.monotonic_ns() + self._timeout_ns

    def late(self) -> list[int]:
        """Supernodes that do not get on, and members that keep them waiting."""
        words, now, layout = self.words, self.judged_ns(), self.server.layout
        found = set()
        for at in self._cells:
            number, owner = words[at + LEASE_NUMBER], words[at + LEASE_OWNER]
            if owner != NOBODY and words[at + LEASE_DEADLINE_NS] < now and words[at + LEASE_COMMITTED] < self.plan.num_batches(number):
                holder = self._groups.holder(owner - layout.num_workers)
                if holder in self._groups.present(owner - layout.num_workers):  # else nobody leads the group just now
                    found.add(holder)
        for slot, at in enumerate(self._of_worker):
            exchange = words[self._of_group[self._groups.group_of(slot)] + EXCHANGE]
            has_share = words[at + PRESENT] and words[at + SHARE_EXCHANGE] == exchange != words[at + HANDED_IN]
            if has_share and words[at + SHARE_DEADLINE_NS] < now:
                found.add(slot)
        return sorted(found)

    def put_off(self, seconds: float) -> None:
        super().put_off(seconds)
        for at in self._of_worker:
            self.words[at + SHARE_DEADLINE_NS] += int(seconds * 1e9)

    # ------------------------------------------------------------------------------------------------- what is told

    def news(self) -> list[Event]:
        """The supernodes that have been replaced since the last call, and the groups that workers shall form from now on."""
        told: list[Event] = []
        if self._regrouping is not None and (formed := self._regrouping.look()) is not None:
            told.append(formed)
        for group, at in enumerate(self._of_group):
            before, taken = self._seen[group]
            now, times = self._groups.holder(group), self.words[at + TAKEN]
            if times < taken:  # the run went back, and all began anew
                before, taken = -1, 0
            if times > max(taken, 1):
                pid = self.words[self._of_worker[now] + PID]
                told.append(SupernodeReplaced(group=group, worker=now, pid=pid, before=before, times=times - max(taken, 1)))
            self._seen[group] = now, times
        return told

    def epoch_news(self, epoch: int) -> list[Event]:
        """The tables of all groups."""
        return [GroupsSeen(epoch=epoch, groups=self.figures()["groups"])]

    def figures(self) -> Mapping[str, Any]:
        """What `Run.metrics` gives of groups: `groups`, the table of each, and the bytes that they exchanged with the root."""
        words = self.words
        return {
            "root_bytes_sent": sum(words[at + ROOT_SENT] for at in self._of_group),
            "root_bytes_received": sum(words[at + ROOT_RECEIVED] for at in self._of_group),
            "groups": [self._table(group) for group in range(self.server.layout.num_groups)],
        }

    def _table(self, group: int) -> dict[str, Any]:
        at = self._of_group[group]
        return {
            "group": group,
            "supernode": self._groups.holder(group),
            "exchanges": self.words[at + EXCHANGES],
            "replaced": max(0, self.words[at + TAKEN] - 1),
            "members": [self._member(slot) for slot in self._groups.members(group)],
        }

    def _member(self, slot: int) -> dict[str, Any]:
        words, at = self.words, self._of_worker[slot]
        return {
            "worker": slot,
            "pid": words[at + PID],
            "rows": words[at + ROWS_DONE],
            "rows_per_s": round(self.server.reals[at + SPEED], 1),
            "clock": words[at + SLOT_PULLED],
            "turns": words[at + TURNS],
        }
