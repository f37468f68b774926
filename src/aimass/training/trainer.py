"""The loop. One run, from the first batch to the last, whatever its strategy.

1. open     the model as one vector in the server's block, the leases, the checkpoint to go on from
2. start    the workers, each with a slot; with `workers=0` the strategy runs in this process and calls `_between_steps`
3. repeat   tend the workers; look at what has been committed; after each epoch evaluate and judge; save when due; go back to an
            earlier state when training has diverged
4. finish   stop the workers, evaluate, save, say what ended it
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.core.errors import TrainingError
from aimass.models.devices import find_device, random_states, set_random_states
from aimass.models.tasks import task_of
from aimass.parameters.layout import STOP
from aimass.training import opening
from aimass.training.checkpoints.saving import Saver
from aimass.training.choosing.choices import Choices
from aimass.training.curve import Curve, validate
from aimass.training.events import WorkerStates
from aimass.training.health.fit import loss_of_guessing
from aimass.training.health.health import ADVICE, Health, RanAway
from aimass.training.health.operations import EVALUATING, SAVING, TENDING
from aimass.training.health.rollback import go_back
from aimass.training.leases.rows import TrainingRows, share
from aimass.training.planes import plane_of
from aimass.training.slices import division
from aimass.training.stopping import StopRules
from aimass.training.strategy import build_strategy
from aimass.training.summary import summarise
from aimass.training.transfer import Prepared, prepare, read_start
from aimass.training.workers.buffers import gather_buffers
from aimass.training.workers.counters import Counters
from aimass.training.workers.elastic import Wishes
from aimass.training.workers.shaping import current_shape
from aimass.training.workers.supervisor import Supervisor
from aimass.training.workers.threads import threads_for
from aimass.training.workers.worker import LocalWorker

if TYPE_CHECKING:
    from torch import nn

    from aimass.core.events import Event
    from aimass.data.dataset import Dataset
    from aimass.training.config import TrainConfig

_LOOK_S = 0.05


class Trainer:
    """Trains one model.

    Args:
        config: the run's settings.
        data: rows to train on, and to validate on.
        folder: the run's.
        tell: takes every event.
        module: the caller's module, where the model is a custom one. It is copied.
        resume: go on from the newest checkpoint in `folder`.
        prepared: the network as `prepare` makes it, where it was made before.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: Dataset,
        folder: Path,
        tell: Callable[[Event], object],
        *,
        module: nn.Module | None = None,
        resume: bool = False,
        prepared: Prepared | None = None,
    ) -> None:
        self.config, self.data, self.folder, self.tell = config, data, folder, tell
        self.module, self._resume, self._prepared, self._shape = module, resume, prepared, current_shape()
        self.summary: dict[str, Any] = {"steps": 0}
        self._cancelled = threading.Event()
        self._ended: tuple[str, str] | None = None
        self.wishes = Wishes(folder)
        self._supervisor: Supervisor | None = None
        self.began_at: int | None = None  # the clock of the checkpoint that training went on from
        self._is_open = self._awaits_owners = False

    def cancel(self) -> None:
        """Ask the run to stop after the batches under way. Any thread may call it."""
        self._cancelled.set()

    def run(self) -> tuple[str, str]:
        """Train, and return the reason that ended it, with a sentence.

        Raises:
            AimassError: training could not go on. What was done is in the last checkpoint.
        """
        random = random_states(find_device(self.config.device))
        try:
            self._open()
            self._train()
            return self._finish()
        finally:
            set_random_states(random, find_device(self.config.device))
            try:
                if self._is_open:
                    self.summary = self._summary()
            finally:
                self._close()

    # ------------------------------------------------------------------------------------------------------- 1. open

    def _open(self) -> None:
        config, task = self.config, task_of(self.data.encoder, self.config.loss)
        if config.transfers:
            prepared = self._prepared or prepare(config, self.data, self.module, read_start(config, self.folder))
            self.module, self._prepared = prepared.module, None
        self.learner = opening.open_learner(config, self.data, task, self.module)
        self.saver = Saver(config, self.folder / "checkpoints", self.learner, self.tell)
        checkpoint = self.saver.read_newest() if self._resume else None
        state = checkpoint.state if checkpoint else {}
        self._choices = Choices.of(config, self.learner, self.data, checkpoint)
        config = self.config = self._choices.settled(config)
        self.plan = opening.plan_leases(config, len(self.data.train), state.get("batches_per_lease"))
        if checkpoint is not None:
            opening.fit_leases(checkpoint.snapshot, self.plan, state, in_rounds=plane_of(config).closes_leases)
        num_open = len(checkpoint.snapshot.open_cells) if checkpoint else 0
        self.slices = division.divide(config, self.learner, self.data)
        num_tasks = self.plan.leases_per_epoch if config.workers and config.strategy.has_tasks else 0
        self.server = opening.open_server(config, self.learner, self.plan.total_batches, num_open, num_tasks, self.slices)
        if checkpoint is not None:
            self.saver.restore(checkpoint, self.server)
        work = 0 if config.workers else self.plan.batch_size * self.learner.manifest.num_parameters
        with threads_for(work):
            self.config, chosen = opening.settle_precision(config, self.learner, self.data, self.plan, state.get("chosen_precision"))
        self._chosen_precision = self.config.precision if config.precision == "auto" else None
        self.leases = plane_of(config).leases(self.server, self.plan, config.lease.timeout)
        self.leases.release_all()
        self.counters = Counters(self.server, state.get("counters"))
        self.rules = StopRules(config.stop, task.primary, state.get("elapsed_s", 0.0), state.get("history", []))
        self.health = Health(
            config,
            self.server,
            self.counters,
            guess=loss_of_guessing(task.name, self.data.train.encoded, task.loss_name),
            num_validation=len(self.data.validation),
            logs=self.folder / "logs",
            tell=self.tell,
            before=state.get("health", {}),
        )
        self.curve = Curve(self.leases, self.counters, self.rules, self.plan.batches_per_epoch, self.tell)
        self.begin_counting(state)
        self.began_at = checkpoint.snapshot.clock if checkpoint else None
        self._is_open = True
        resumed_at = self.leases.committed_batches if checkpoint else None
        self.tell(opening.describe_start(self.config, self.data, self.learner, self.plan, resumed_at))
        if config.transfers:
            self.tell(prepared.started)
        for event in (*self._choices.events, *([chosen] if chosen else [])):
            self.tell(event)
        if (owned := opening.describe_owners(self.learner, self.server)) is not None:
            self.tell(owned)
        if self.slices is not None:
            self.tell(division.describe_slices(self.config, self.slices, self.server.layout))

    def begin_counting(self, state: Mapping[str, Any]) -> None:
        """Take the leases and the counters as they are for where training begins, or begins again.

        Args:
            state: what `_state` gave at that moment; nothing at the run's start.
        """
        self._evaluated = min(self.leases.epochs_done, self.rules.epochs_judged)
        self.leases.open(self._horizon())
        self.curve.begin(state.get("curve"))

    # ------------------------------------------------------------------------------------------ 2. and 3. start, repeat

    def _train(self) -> None:
        if self.config.workers:
            self._open_workers()
        self.health.start(self._supervisor.pids if self._supervisor else None)
        while True:
            try:
                if self._supervisor is None:
                    self._work()
                else:
                    self._drive(self._supervisor)
                if self._ended is None:
                    self.health.look(self.leases.committed_batches)
                return
            except RanAway as alarm:
                go_back(self, self._supervisor, alarm)

    def _work(self) -> None:
        """Train in this process."""
        worker = LocalWorker(
            learner=self.learner,
            server=self.server,
            leases=self.leases,
            rows=TrainingRows.of(self.data.train.encoded),
            clip=self.config.clip,
            slot=0,
            optimizer=self.config.optimizer,
        )
        worker.after_step, worker.when_idle = self._between_steps, self._look
        self._next_look = 0.0
        with threads_for(self.plan.batch_size * self.learner.manifest.num_parameters):
            build_strategy(self.config.strategy).work(worker)

    def _open_workers(self) -> None:
        self._rows, places = share(self.data.train.encoded)
        layout = self.server.layout
        orders = opening.write_orders(self.config, self.data, self.learner, layout, self.plan, places, self.module, self.slices)
        orders.shape = self._shape
        descriptors = [self.server.memory.descriptor, self._rows.descriptor]
        self._supervisor = Supervisor(orders, descriptors, self.server, self.leases, self.folder / "logs", self.tell, self.wishes)
        self._supervisor.num_lost = self.counters.num_lost

    def _drive(self, supervisor: Supervisor) -> None:
        """Have the workers train."""
        if plane_of(self.config).has_owners:
            self._awaits_owners = True
            self.leases.extend(self._horizon())
        supervisor.start()
        while self._ended is None and not self.leases.is_done:
            supervisor.tend(_LOOK_S)
            if self._awaits_owners and supervisor.are_all_there:
                self._awaits_owners = False
                self.leases.extend(self._horizon())
            self._look()

    def _between_steps(self) -> None:
        """With `workers=0`: what the loop does, between two batches, and rarely enough not to be felt."""
        if time.monotonic() >= self._next_look:
            self._look()
            self._next_look = time.monotonic() + _LOOK_S

    def _look(self) -> None:
        """See what has been committed, and act on it."""
        self.health.driver_does(TENDING)
        if self._cancelled.is_set():
            self._end("cancelled", "it was asked to stop")
        elif out := self.rules.out_of_time():
            self._end(*out)
        if self.curve.is_due:
            self._tell_progress()
        if self.leases.epochs_done > self._evaluated:
            self._evaluated = self.leases.epochs_done
            self._end_epoch(self._evaluated)
            self.leases.extend(self._horizon())
        if self._ended is None:
            self.health.look(self.leases.committed_batches)
        tend = self._supervisor.tend_pushes if self._supervisor else None
        self.saver.tend(self.server, self._state, tend, may_take=not self.health.is_suspicious)

    def _horizon(self) -> int:
        """Up to which lease workers may go: one process waits for each epoch's evaluation; several run on, but do not end the next
        epoch before it, so that every epoch is evaluated. Nobody begins before all are there where each owns a part of p, which would
        learn nothing of the batches until then."""
        if self._awaits_owners:
            return 0
        per_epoch = self.plan.leases_per_epoch
        ahead = self.config.workers and not plane_of(self.config).waits_at_epochs
        return (self._evaluated + 1) * per_epoch + (per_epoch - 1 if ahead else 0)

    def _end(self, reason: str, message: str) -> None:
        self._ended = self._ended or (reason, message)
        self.server.words[STOP] = 1

    def _tell_progress(self) -> None:
        self.curve.tell_progress(self._supervisor.num_alive if self._supervisor else 1)

    # ---------------------------------------------------------------------------------------------- epochs and saving

    def _end_epoch(self, epoch: int, *, is_whole: bool = True) -> None:
        """Evaluate, note, and judge whether to stop. The last epoch of a run may be a part of one."""
        self.health.driver_does(EVALUATING)
        self._pull_model()
        self.leases.settle()
        now = self.curve.now()
        if plane_of(self.config).waits_at_epochs and not self.rules.judges_epochs:
            self.leases.extend(self._horizon())  # this epoch's p is copied, so that nobody has to wait for its evaluation
        if self._supervisor is not None:
            self.tell(WorkerStates(epoch=epoch, workers=self.counters.workers))
        entry = self.curve.end_epoch(epoch, now, validate(self.learner, self.data), is_whole=is_whole)
        if self.leases.taken is not None:
            self.tell(self.leases.taken.tell(epoch))
        for event in self.leases.epoch_news(epoch):
            self.tell(event)
        if entry["is_best"]:
            self.saver.note_best(entry)
        self.health.see_epoch(self.rules.history, self.plan.batches_per_epoch)
        if stop := self.rules.judge():
            self._end(*stop)

    def _pull_model(self) -> None:
        """Bring p, and the workers' buffers, into this process's module."""
        self.server.pull(self.learner.parameters)
        self.learner.refresh()
        if self._supervisor is not None:
            gather_buffers(self.learner, self.server, self._supervisor.integers)

    def keep_state(self) -> None:
        """Write the state of now, while nobody trains.

        Raises:
            StorageError: the disk is full or broken; what was there stays.
        """
        self.health.driver_does(SAVING)
        self._pull_model()
        self.saver.save(self.server, self._state)

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds besides the server's. Pushes are held back meanwhile."""
        if self._supervisor is not None:
            gather_buffers(self.learner, self.server, self._supervisor.integers)
            self.counters.num_lost = self._supervisor.num_lost
        return {
            "history": list(self.rules.history),
            "elapsed_s": self.rules.elapsed_s,
            "batches_per_lease": self.plan.batches_per_lease,
            "total_batches": self.plan.total_batches,
            "counters": self.counters.state(),
            "curve": self.curve.state(),
            "chosen_precision": self._chosen_precision,
            **self._choices.state(),
            "health": self.health.state(),
        }

    # ----------------------------------------------------------------------------------------------------- 4. finish

    def _finish(self) -> tuple[str, str]:
        """Let the workers leave, evaluate what is there, save it, and say what ended the run."""
        self.server.words[STOP] = 1
        if self._supervisor is not None:
            self._supervisor.stop()
        self.health.count_refused()
        self._tell_progress()
        if self.counters.num_refused and not self.server.clock:
            raise TrainingError(f"every gradient held NaN or infinity, and nothing was learnt; {ADVICE}")
        done, per_epoch = self.leases.committed_batches, self.plan.batches_per_epoch
        if not self.rules.history or self.rules.history[-1]["step"] < done:
            self._end_epoch(-(-done // per_epoch), is_whole=done % per_epoch == 0)
        self.health.judge_fit(self.rules.history)
        self.keep_state()
        if self.config.stop.patience is not None:
            self.saver.bring_back_best()
        return self._ended or self.rules.natural_end(self.leases.committed_batches)

    def _summary(self) -> dict[str, Any]:
        num_lost = self._supervisor.num_lost if self._supervisor else self.counters.num_lost
        batches = self.leases.committed_batches
        epochs = batches / self.plan.batches_per_epoch
        has_workers = bool(self.config.workers)
        found = summarise(self.rules, self.counters, batches, epochs, self.saver.best, num_lost, self.health, has_workers=has_workers)
        return {**found, **self.leases.figures()}

    def _close(self) -> None:
        """Leave nothing behind: no thread, no process, no descriptor, no memory but the model's own."""
        if hasattr(self, "health"):
            self.health.close()
        if self._supervisor is not None:
            self._supervisor.close()
        if hasattr(self, "_rows"):
            self._rows.close()
        try:
            if hasattr(self, "saver"):
                self.saver.close()
        finally:
            if hasattr(self, "server"):
                self.learner.settle()
                self.server.memory.close()
