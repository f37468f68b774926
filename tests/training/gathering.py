"""Workers of which nobody begins before all are there: in a short run one might do everything before another has started."""

import time

from aimass.training.groups import group
from aimass.training.workers import entry
from aimass.training.workers.words import LEAVE

_HERE = LEAVE + 1  # a word of a worker's slot that no worker writes


class _Gathered:
    """A strategy that waits for everybody first."""

    def __init__(self, strategy, num_workers):
        self._strategy, self._num_workers = strategy, num_workers

    def work(self, worker):
        words, layout = worker.server.words, worker.server.layout
        words[layout.slot(worker.slot) + _HERE] = 1
        while not all(words[layout.slot(slot) + _HERE] for slot in range(self._num_workers)):
            time.sleep(0.001)
        self._strategy.work(worker)


def main(context):
    """The worker's entry, run in the forked process."""
    build = entry.build_strategy
    entry.build_strategy = lambda config: _Gathered(build(config), context.payload.config.workers)
    worker_main(context)


class GatheredGroup(group.Group):
    """A group that divides nothing before each of its members is there."""

    def _publish(self, lease):
        while len(self._server.present(self._server.group)) < len(self._server.members(self._server.group)):
            time.sleep(0.001)
        return super()._publish(lease)


def main_of_groups(context):
    """The same where the members of a group divide its leases."""
    group.Group = GatheredGroup
    main(context)


worker_main = entry.main
