"""A worker of rounds that kills itself at one of the moments at which a death could matter, in its first rounds.

It runs the real worker on the real server; only a SIGKILL is aimed.
"""

import os
import random
import signal
import time

from aimass.parameters.layout import SLOT_FREE
from aimass.parameters.rounds import RoundServer
from aimass.training import planes
from aimass.training.workers import worker

KILLS, QUOTA = SLOT_FREE + 8, SLOT_FREE + 9  # words of slot 0: how often workers were killed, and at most how often
MOMENTS = ("compute", "fill", "filled", "shard", "in update", "updated", "commit", "committed", "take over", "anywhere")
WHERE = SLOT_FREE + 10  # and from here on at which moment
_LONGEST_LIFE = 30  # in moments, of which a round has about 9
_LONGEST_LIFE_S = 0.02


class MortalServer(RoundServer):
    """Dies at the n-th time that a chosen moment comes, or by a timer that no Python code can put off."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self._chance = random.Random(time.monotonic_ns())
        self._moment, self._nth = self._chance.choice(MOMENTS), self._chance.randint(1, 2)
        self._left = _LONGEST_LIFE
        apply = self.update.apply

        def apply_in_halves(p, gradient, states, *rest):
            half = len(p) // 2
            if half:
                apply(p[:half], gradient[:half], [state[:half] for state in states], *rest)
                self.reached("in update")
            apply(p[half:], gradient[half:], [state[half:] for state in states], *rest)

        self.update.apply = apply_in_halves

    def reached(self, moment):
        if self._left <= 0 or self.words[self.layout.slot(0) + KILLS] >= self.words[self.layout.slot(0) + QUOTA]:
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
        at = self.layout.slot(0)
        self.words[at + KILLS] += 1  # by two workers at once it counts one, and one more is killed
        self.words[at + WHERE + MOMENTS.index(moment)] += 1

    @property
    def gradient(self):
        if self.part is not None:
            self.reached("compute")
        return super().gradient

    def _fill(self, part, weight):
        self.reached("fill")
        super()._fill(part, weight)
        self.reached("filled")

    def _bring_on(self, shard, now, acting):
        self.reached("shard")
        super()._bring_on(shard, now, acting)
        self.reached("updated")

    def _take_over(self, shard, acting):
        super()._take_over(shard, acting)
        self.reached("take over")

    def _commit_round(self, now):
        self.reached("commit")
        done = super()._commit_round(now)
        self.reached("committed")
        return done


def main(context):
    """The worker's entry, run in the forked process."""
    planes.RoundServer = MortalServer
    worker_main(context)


worker_main = worker.main
