"""A worker of a group that kills itself at one of the moments at which a death could matter, early in its life.

It runs the real worker, with real sums between processes; only a SIGKILL is aimed.
"""

import os
import random
import signal
import time

from aimass.parameters.layout import SLOT_FREE
from aimass.parameters.replicas import ReplicaServer
from aimass.training import planes
from aimass.training.replicas import exchange, group
from aimass.training.replicas.addresses import AddressStore
from aimass.training.workers import worker

KILLS, QUOTA = SLOT_FREE + 8, SLOT_FREE + 9  # words of slot 0: how often workers were killed, and at most how often
MOMENTS = ("meet", "address", "adopt", "adopted", "compute", "sum", "summed", "in update", "updated", "anywhere")
_WEIGHTS = (1, 1, 1, 1, 5, 5, 5, 5, 5, 5)  # or groups would break again before they have done anything
WHERE = SLOT_FREE + 10  # and from here on at which moment
_LONGEST_LIFE = 24  # in moments, of which a round has about 5
_LONGEST_LIFE_S = 0.02


class Fate:
    """Dies at the n-th time that a chosen moment comes, or by a timer that no Python code can put off."""

    def __init__(self, server):
        self._words, self._at = server.words, server.layout.slot(0)
        self._chance = random.Random(time.monotonic_ns())
        self._moment, self._nth = self._chance.choices(MOMENTS, _WEIGHTS)[0], self._chance.randint(1, 2)
        self._left = _LONGEST_LIFE

    def reached(self, moment):
        if self._left <= 0 or self._words[self._at + KILLS] >= self._words[self._at + QUOTA]:
            return
        self._left -= 1
        if self._moment == "anywhere":
            self._left = 0
            self._count(self._moment)
            if os.fork() == 0:
                time.sleep(self._chance.random() * _LONGEST_LIFE_S)
                os.kill(os.getppid(), signal.SIGKILL)
                os._exit(0)
            return
        self._nth -= moment == self._moment
        if self._nth == 0 or self._left == 0:
            self._count(moment)
            os.kill(os.getpid(), signal.SIGKILL)

    def _count(self, moment):
        self._words[self._at + KILLS] += 1  # by two workers at once it counts one, and one more is killed
        self._words[self._at + WHERE + MOMENTS.index(moment)] += 1


class DepartingServer(ReplicaServer):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.fate = Fate(self)
        apply = self.update.apply

        def apply_in_halves(p, gradient, states, *rest):
            half = len(p) // 2
            if half:
                apply(p[:half], gradient[:half], [state[:half] for state in states], *rest)
                self.fate.reached("in update")
            apply(p[half:], gradient[half:], [state[half:] for state in states], *rest)

        self.update.apply = apply_in_halves

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


class DepartingStore(AddressStore):
    def __init__(self, server, *arguments):
        super().__init__(server, *arguments)
        self._fate = server.fate

    def set(self, key, value):
        super().set(key, value)
        self._fate.reached("address")


class DepartingExchange(exchange.Exchange):
    def compute(self, part):
        self._server.fate.reached("compute")
        return super().compute(part)


def main(context):
    """The worker's entry, run in the forked process."""
    planes.ReplicaServer = DepartingServer
    exchange.Group = DepartingGroup
    exchange.Exchange = DepartingExchange
    group.AddressStore = DepartingStore
    worker_main(context)


worker_main = worker.main
