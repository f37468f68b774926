"""A worker of a group that kills itself at one of the moments at which a death could matter, early in its life.

It runs the real worker, with real sums between processes; only a SIGKILL is aimed.
"""

from faults.fate import Fate, die_inside
from faults.meeting import FatedStore

from aimass.parameters.replicas import ReplicaServer
from aimass.training import planes
from aimass.training.replicas import exchange, group
from aimass.training.workers import entry

MOMENTS = ("meet", "address", "adopt", "adopted", "compute", "sum", "summed", "in update", "updated", "anywhere")
_WEIGHTS = (1, 1, 1, 1, 5, 5, 5, 5, 5, 5)  # or groups would break again before they have done anything
_LONGEST_LIFE = 24  # in moments, of which a round has about 5


class DepartingServer(ReplicaServer):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.fate = Fate(self, MOMENTS, _LONGEST_LIFE, _WEIGHTS)
        die_inside(self.update, self.fate.reached)

    def apply(self, done):
        super().apply(done)
        self.fate.reached("updated")


class DepartingGroup(group.Group):
    def sum(self, vector):
        self.server.fate.reached("sum")
        super().sum(vector)
        self.server.fate.reached("summed")

    def _meet(self):
        self.server.fate.reached("meet")
        return super()._meet()

    def _broadcast(self, vector, root):
        self.server.fate.reached("adopt")
        super()._broadcast(vector, root)
        self.server.fate.reached("adopted")


class DepartingExchange(exchange.Exchange):
    def compute(self, part):
        self._server.fate.reached("compute")
        return super().compute(part)


def main(context):
    """The worker's entry, run in the forked process."""
    planes.ReplicaServer = DepartingServer
    exchange.Group = DepartingGroup
    exchange.Exchange = DepartingExchange
    group.AddressStore = FatedStore
    worker_main(context)


worker_main = entry.main
