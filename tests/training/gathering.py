"""Workers of a group of which nobody begins before all are there, so that it is known who does what."""

import time

from aimass.training.groups import group
from aimass.training.workers import entry


class Gathered(group.Group):
    def _publish(self, lease):
        while len(self._server.present(self._server.group)) < len(self._server.members(self._server.group)):
            time.sleep(0.001)
        return super()._publish(lease)


def main(context):
    """The worker's entry, run in the forked process."""
    group.Group = Gathered
    worker_main(context)


worker_main = entry.main
