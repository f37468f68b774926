"""Workers of all-reduce without their processes: handles on one block, that threads may use."""

import threading

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.layout import Layout
from aimass.parameters.replicas import NUM_EXTRAS, ReplicaServer
from aimass.training.replicas.addresses import NOTE_BYTES
from aimass.training.replicas.group import GroupBroken


def make_workers(count, num_parameters=10, optimizer="momentum"):
    """A handle for each worker, on a new block."""
    update = build_update(OptimizerConfig(name=optimizer))
    layout = Layout(
        num_parameters=num_parameters,
        groups=((0, num_parameters),),
        states=tuple(update.states),
        num_slots=count,
        num_replicas=count,
        num_extras=NUM_EXTRAS,
        note_bytes=NOTE_BYTES,
    )
    driver = ReplicaServer.create(layout, update, lambda done: 0.1)
    return [ReplicaServer(driver.memory, layout, update, driver.rate, slot=slot) for slot in range(count)]


def together(*functions):
    """What functions return or raise, each run in a thread of its own."""
    found = [None] * len(functions)

    def run(i):
        try:
            found[i] = functions[i]()
        except GroupBroken as error:
            found[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return found
