"""When a worker of a test kills itself: at the n-th time that a chosen moment comes, or by a timer."""

import os
import random
import signal
import time

from aimass.parameters.layout import SLOT_PART
from aimass.training.workers.words import LEAVE

KILLS, QUOTA = LEAVE + 1, LEAVE + 2  # words of slot 0 that no worker writes: how often workers were killed, and at most how often
WHERE = LEAVE + 3  # and from here on at which moment
MOST_MOMENTS = SLOT_PART - WHERE
_LONGEST_LIFE_S = 0.02


class Fate:
    """Dies at the n-th time that a chosen moment comes, or by a timer that no Python code can put off ("anywhere").

    Args:
        server: in whose first slot deaths are counted.
        moments: their names, of which the last is "anywhere".
        longest_life: after how many moments it dies anyway.
        weights: how likely each moment is chosen.
        most_times: at the latest it dies when its moment comes for so many times.
    """

    def __init__(self, server, moments, longest_life, weights=None, most_times=2):
        assert len(moments) <= MOST_MOMENTS, "behind them are the words of others"
        self._words, self._at, self._moments = server.words, server.layout.slot(0), moments
        self._chance = random.Random(time.monotonic_ns())
        self._moment, self._nth = self._chance.choices(moments, weights)[0], self._chance.randint(1, most_times)
        self._left = longest_life

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
        self._words[self._at + WHERE + self._moments.index(moment)] += 1


def die_inside(update, reached):
    """Have an optimizer's update come by the moment "in update" half way through each chunk."""
    apply = update.apply

    def apply_in_halves(p, gradient, states, *rest):
        half = len(p) // 2
        if half:
            apply(p[:half], gradient[:half], [state[:half] for state in states], *rest)
            reached("in update")
        apply(p[half:], gradient[half:], [state[half:] for state in states], *rest)

    update.apply = apply_in_halves
