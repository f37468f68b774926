"""A worker with a part of the model that kills itself at one of the moments at which a death could matter, early in its life."""

from itertools import count

from faults.fate import Fate, die_inside
from faults.meeting import FatedStore

from aimass.parameters.slices import SliceServer
from aimass.training import planes
from aimass.training.replicas import group as group_module
from aimass.training.slices import exchange, group
from aimass.training.workers import entry

MOMENTS = ("meet", "address", "send", "sent", "sum", "summed", "in update", "updated", "anywhere")
_WEIGHTS = (1, 1, 5, 5, 5, 5, 5, 5, 5)
_LONGEST_LIFE = 40  # in moments, of which a round has about 6
_MOST_TIMES = 4  # or so many in a row die in their first round that the run gives up, as it should
_TRANSFERS = 12  # one in so many is a moment; a round has about 9 of them


class SlicingServer(SliceServer):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.fate = Fate(self, MOMENTS, _LONGEST_LIFE, _WEIGHTS, _MOST_TIMES)
        die_inside(self.update, self.fate.reached)

    def decide(self, done, **options):
        super().decide(done, **options)
        self.fate.reached("updated")


class SlicingGroup(group.SliceGroup):
    def sum(self, vector):
        self.server.fate.reached("sum")
        super().sum(vector)
        self.server.fate.reached("summed")

    def _meet(self):
        self.server.fate.reached("meet")
        return super()._meet()

    def _make(self, *arguments):
        made, fate = super()._make(*arguments), self.server.fate
        start, transfers = made._start, count()

        def start_and_die(*arguments):
            is_chosen = next(transfers) % _TRANSFERS == 7  # or groups would break again before they have done anything
            if is_chosen:
                fate.reached("send")
            work = start(*arguments)
            if is_chosen:
                fate.reached("sent")
            return work

        made._start = start_and_die
        return made


def main(context):
    """The worker's entry, run in the forked process."""
    planes.SliceServer = SlicingServer
    exchange.SliceGroup = SlicingGroup
    group_module.AddressStore = FatedStore
    worker_main(context)


worker_main = entry.main
