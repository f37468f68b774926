"""A worker of a group that kills itself at one of the moments at which a death could matter, as a member or as the supernode.

It runs the real worker on the real server; only a SIGKILL is aimed.
"""

import random

import torch
from faults.fate import Fate
from faults.killing import IntegerUpdate

from aimass.parameters.groups import GroupServer
from aimass.parameters.views.members import PRESENT
from aimass.training import planes
from aimass.training.groups import group
from aimass.training.leases.groups import GroupTable
from aimass.training.workers import entry

MOMENTS = (
    "take role",
    "took role",
    "cut",
    "cut out",
    "hand in",
    "handed in",
    "push",
    "in p",
    "in second",
    "commit",
    "committed",
    "move",
    "moved",
    "anywhere",
)
ROWS = 128  # of an exchange
_LONGEST_LIFE = 40  # in moments, of which an exchange has about 9


class LeadingServer(GroupServer):
    """Asks its fate at every moment of an exchange."""

    fate = None

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        LeadingServer.fate = LeadingServer.fate or Fate(self, MOMENTS, _LONGEST_LIFE)
        if isinstance(self.update, IntegerUpdate):
            self.update.reached = lambda point: self.reached(point) if point in MOMENTS else None

    def reached(self, moment):
        LeadingServer.fate.reached(moment)

    def _finish(self, group, holder=None):
        self.reached("take role")
        found = super()._finish(group, holder)
        self.reached("took role")
        return found

    def go(self, seen, vacate):
        self.reached("move")
        has_moved = super().go(seen, vacate)
        self.reached("moved")
        return has_moved

    def _apply(self, shard, slot):
        self.reached("push")
        super()._apply(shard, slot)

    def _commit(self, slot):
        self.reached("commit")
        super()._commit(slot)
        self.reached("committed")


class LeadingGroup(group.Group):
    def _give(self, slot, share):
        self._server.reached("cut")
        super()._give(slot, share)
        self._server.reached("cut out")

    def hand_in(self, share, loss, change):
        self._server.reached("hand in")
        super().hand_in(share, loss, change)
        self._server.reached("handed in")


class RowsUpdate(IntegerUpdate):
    """p ← p + the sum over the rows of an exchange: whole numbers, the same in any order and however the rows were divided."""

    def apply(self, p, gradient, *rest):
        super().apply(p, torch.round(ROWS * gradient), *rest)


def of_rows(rows, length):
    """A vector for each row: integers from 0 to 6. Shape (rows, length)."""
    return ((rows[:, None] * 31 + torch.arange(length)) % 7).float()


class RowsLearner(entry.Learner):
    def gradient(self, batch):
        self.gradient_vector.copy_(of_rows(batch["rows"], len(self.gradient_vector)).mean(0))
        return 1.0, self.gradient_vector


class RestlessTable(GroupTable):
    """Sends two workers to one another's group as soon as everybody is there."""

    def news(self):
        server, slots = self.server, range(self.server.layout.num_workers)
        groups = {slot: server.group_of(slot) for slot in slots}
        if all(server.words[server.layout.slot(slot) + PRESENT] and server.assigned(slot) == groups[slot] for slot in slots):
            one = random.choice(slots)
            other = random.choice([slot for slot in slots if groups[slot] != groups[one]])
            server.assign({one: groups[other], other: groups[one]})
        return super().news()


def main(context):
    """The worker's entry, run in the forked process."""
    planes.GroupServer, group.Group = LeadingServer, LeadingGroup
    worker_main(context)


def main_on_rows(context):
    """The same, with gradients that tell which rows are in them."""
    entry.Learner, entry.build_update = RowsLearner, lambda config: RowsUpdate()
    main(context)


worker_main = entry.main
