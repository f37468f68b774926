"""Going back: to which state, and what has to be made undone so that no trace of what came after it is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimass.core.errors import StorageError, TrainingError
from aimass.training import opening
from aimass.training.events import RolledBack
from aimass.training.health.health import ADVICE
from aimass.training.planes import plane_of
from aimass.training.workers.words import BUFFERED

if TYPE_CHECKING:
    from aimass.training.checkpoints.checkpoint import Checkpoint
    from aimass.training.health.health import RanAway
    from aimass.training.trainer import Trainer
    from aimass.training.workers.supervisor import Supervisor


def go_back(trainer: Trainer, supervisor: Supervisor | None, alarm: RanAway) -> None:
    """Bring a run that diverged back to its last checkpoint, or to its start where there is none yet, at half the rate.

    1. stop the workers, and finish what each had begun, so that nobody writes any more
    2. put p, states, clock, leases, buffers, counters and history back
    3. halve the rate, and write that down in a checkpoint of the same step, so that a run that is resumed keeps it

    The caller starts the workers again. A checkpoint from which training ran away at once is not used twice: the one before is. If the
    driver is killed meanwhile, what is on the disk is a state of the run at every moment: either it diverges again and goes back, or it
    has gone back.

    Raises:
        TrainingError: it has gone back as often as it may.
    """
    health, diverged = trainer.health, alarm.diverged
    if not health.config.enabled:
        raise TrainingError(f"{diverged.message}; {ADVICE}") from None
    trainer.tell(diverged)
    most = health.config.rollbacks
    if health.num_rollbacks >= most:
        tried = f"; going back {most} time{'' if most == 1 else 's'}, to half the rate each time, did not help" if most else ""
        raise TrainingError(f"{diverged.message}{tried}; {ADVICE}") from None
    if supervisor is not None:
        supervisor.stop_all()
    from_step = trainer.leases.committed_batches
    checkpoint = _choose(trainer)
    if checkpoint.state:
        trainer.saver.forget_after(checkpoint.snapshot.clock)  # it is on the disk, and whoever resumes begins there too
    _restore(trainer, supervisor, checkpoint)
    health.went_back(checkpoint.state.get("health", {}))
    to_step = trainer.leases.committed_batches
    try:
        trainer.keep_state()
        trainer.saver.forget_after(checkpoint.snapshot.clock)
    except StorageError:
        trainer.saver.due = 0.0  # training goes on; the saver tries again at the next look, and says what is wrong
    trainer.tell(RolledBack(from_step=from_step, to_step=to_step, rate_factor=health.rate_factor, rollback=health.num_rollbacks))


def _choose(trainer: Trainer) -> Checkpoint:
    below = trainer.began_at if trainer.health.ran_at_once else None
    checkpoint = trainer.saver.last(below)
    if checkpoint is not None:
        opening.fit_leases(checkpoint.snapshot, trainer.plan, checkpoint.state, in_rounds=plane_of(trainer.config).closes_leases)
        if len(checkpoint.snapshot.open_cells) <= trainer.server.layout.num_cells:
            return checkpoint
    return opening.first_state(trainer.config, trainer.data, trainer.module)


def _restore(trainer: Trainer, supervisor: Supervisor | None, checkpoint: Checkpoint) -> None:
    server, state = trainer.server, checkpoint.state
    trainer.saver.restore(checkpoint, server)
    trainer.leases.release_all()
    if supervisor is not None:
        supervisor.integers = {name: values.tolist() for name, values in checkpoint.integers.items()}
        for slot in range(server.layout.num_slots if server.layout.num_buffers else 0):
            server.buffers(slot).copy_(checkpoint.floats)
            server.words[server.layout.slot(slot) + BUFFERED] = 1  # so that their mean is that of the checkpoint
    trainer.counters.begin_again(state.get("counters"))
    trainer.rules.go_back(state.get("history", []))
    trainer.began_at = checkpoint.snapshot.clock
    trainer.begin_counting(state)
