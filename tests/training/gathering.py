"""Workers of a group of which nobody begins before all are there, so that it is known who does what."""

import time

from aimass.parameters.groups import PRESENT
from aimass.training.groups import group
from aimass.training.workers import entry


class Gathered(group.Group):
    def _publish(self, lease):
        while not all(self._words[at + PRESENT] for at in self._members.values()):
            time.sleep(0.001)
        return super()._publish(lease)


def main(context):
    """The worker's entry, run in the forked process."""
    group.Group = Gathered
    worker_main(context)


worker_main = entry.main
