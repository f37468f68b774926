"""A run in hand: to begin it, wait for it, stop it, scale it and go on with it. What is known about it is in `record.py`."""

from __future__ import annotations

import os
import secrets
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aimass.core.errors import AimassError, Cancelled, Conflict, NotFound
from aimass.core.events import EventLog
from aimass.core.full_memory import is_out_of_memory, out_of_memory
from aimass.training import driven
from aimass.training.config import TrainConfig
from aimass.training.events import RunEnded
from aimass.training.health.config import REVEALED
from aimass.training.health.teller import Teller
from aimass.training.record import RUNNING, Record, folder_of_runs
from aimass.training.workers.elastic import Wishes

if TYPE_CHECKING:
    from torch import nn

    from aimass.data.dataset import Dataset
    from aimass.models.model import Model
    from aimass.training.trainer import Trainer
    from aimass.training.transfer import Prepared


class Run(Record):
    """One training from start to end.

    Make one with `aimass.train`, or open one that exists with `Run.open`.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        super().__init__(folder, facts)
        self._data: Dataset | None = None
        self._module: nn.Module | None = None
        self._trainer: Trainer | None = None
        self._thread: threading.Thread | None = None
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._model: Model | None = None

    @classmethod
    def create(cls, config: TrainConfig, data: Dataset, module: nn.Module | None, home: Path | None = None) -> Run:
        """Make a run's folder. Nothing is trained yet."""
        now = time.time()
        identity = f"run-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(3)}"
        folder = folder_of_runs(home) / identity
        described = {"name": data.name, "fingerprint": data.fingerprint, "origin": data.origin, "task": data.task}
        facts = {"v": 1, "id": identity, "created": now, "config": _kept(config), "data": described, "state": RUNNING}
        run = cls(folder, facts)
        run._data, run._module = data, module
        run._note(state=RUNNING, pid=os.getpid())
        return run

    @property
    def _goes_here(self) -> bool:
        return self._thread is not None

    @property
    def data(self) -> Dataset | None:
        """The data set, where this process trains or has trained on it."""
        return self._data

    @property
    def model(self) -> Model:
        """The result. Waits for the run to end."""
        self.wait()
        if self._model is None:
            from aimass.models.model import Model

            if not (self.folder / "model").is_dir():
                raise NotFound(f"{self.id} left no model: it is {self.state}; resume it with `aimass train --resume {self.id}`")
            self._model = Model.load(self.folder / "model", module=self._module)
        return self._model

    # ------------------------------------------------------------------------------------------------------- control

    def wait(self, timeout: float | None = None) -> Run:
        """Wait for the end.

        Args:
            timeout: seconds to wait at most; the run goes on after that.

        Raises:
            AimassError: what ended it, if it failed.
            Cancelled: Ctrl-C; the run was stopped in good order and can be resumed.
            TimeoutError: it has not ended in time.
        """
        if self._thread is None:
            return self
        try:
            ended = self._done.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
        if not ended:
            raise TimeoutError(f"{self.id} has not ended within {timeout:g} s; it goes on")
        self._thread.join()  # it has nothing left to do but to leave, which it must before the interpreter does
        if self._error is not None:
            raise self._error
        return self

    def cancel(self) -> None:
        """Ask it to stop: the batches under way are finished, a checkpoint is written. `wait` waits for that."""
        if self._trainer is not None:
            self._trainer.cancel()

    def scale(self, workers: int) -> None:
        """Go on with another number of workers, within the range that the run was started with.

        New ones begin within tenths of a second; those that are too many finish their batch first. It returns at once, and the event
        `scaled` follows. A run that another process drives is asked through its folder.

        Raises:
            Conflict: the run does not go.
            UsageError: the number is out of its range, or the run has none.
        """
        if self.state != RUNNING:
            raise Conflict(f"{self.id} is {self.state}, and only a run that goes can be scaled; resume it with workers={workers}")
        self.config.worker_range.check(workers)
        trainer = self._trainer
        if trainer is not None:
            trainer.wishes.ask(workers)
        else:
            Wishes(self.folder).leave(workers)

    def stop(self) -> NoReturn:
        """What Ctrl-C does: cancel, wait until everything is kept, and say how to go on.

        Raises:
            Cancelled: always, once the run has ended.
        """
        self.cancel()
        self._done.wait()
        assert self._thread is not None, "a run that was cancelled has a thread"
        self._thread.join()
        if self._error is not None:
            raise self._error
        raise Cancelled(f"stopped at a whole checkpoint; go on with: aimass train --resume {self.id}") from None

    def resume(self, **changes: Any) -> Run:
        """Go on from the newest checkpoint, with other settings if need be, such as `epochs=20` or `workers=4`."""
        from aimass.training.train import resume

        known = {"data": self._data, "model": self._module, "home": self.folder.parent.parent}
        return resume(self.id, **{**known, **changes})

    def go_on(
        self,
        config: TrainConfig,
        data: Dataset,
        module: nn.Module | None,
        prepared: Prepared | None = None,
        *,
        from_checkpoint: bool = True,
    ) -> None:
        """Begin again from the newest checkpoint, with these settings; or from the first batch, where there is no checkpoint."""
        self._data, self._module = data, module
        for ended in ("metrics", "message", "reason", "ended"):
            self._facts.pop(ended, None)
        Wishes(self.folder).forget()
        self._note(state=RUNNING, pid=os.getpid(), config=_kept(config))
        self.start(resume=from_checkpoint, prepared=prepared)

    def start(self, *, resume: bool = False, prepared: Prepared | None = None) -> None:
        """Begin, in a thread of this process. The caller has set `_data`, and `_module` for a custom model.

        Args:
            resume: go on from the newest checkpoint.
            prepared: the network to begin with, where it was made already to see whether it can be.
        """
        from aimass.training.trainer import Trainer

        assert self._data is not None, "a run starts with its data"
        config = self.config
        teller = Teller(EventLog(self.folder / "events.jsonl", self.id), config.health)
        self._trainer = Trainer(config, self._data, self.folder, teller.tell, module=self._module, resume=resume, prepared=prepared)
        self._thread = threading.Thread(target=self._carry_out, args=(self._trainer, teller), name=self.id, daemon=True)
        driven.begin(self, self._thread)

    def _carry_out(self, trainer: Trainer, teller: Teller) -> None:
        try:
            with teller:
                try:
                    reason, message = trainer.run()
                    self._keep_model(trainer)
                    self._end(trainer, teller.tell, "cancelled" if reason == "cancelled" else "succeeded", reason, message)
                except BaseException as error:  # noqa: BLE001 - it is raised again by wait()
                    self._error = _explained(error)
                    self._end(trainer, teller.tell, "failed", "failed", str(self._error))
        except BaseException as error:  # noqa: BLE001 - not even the end could be written down
            self._error = self._error or error
            self._facts = {**self._facts, "state": "failed", "message": str(self._error)}
        finally:
            driven.end(self)
            self._trainer = None  # it holds the shared memory
            self._done.set()

    def _keep_model(self, trainer: Trainer) -> None:
        from aimass.models.model import Model
        from aimass.models.transfer.lora import merge_adapters

        assert self._data is not None, "a run has data while it runs"
        config = self.config
        module = merge_adapters(trainer.learner.module) if config.transfers else trainer.learner.module
        self._model = Model(module=module, encoder=self._data.encoder, task=trainer.learner.task, config=config.model)
        self._model.save(self.folder / "model")

    def _end(self, trainer: Trainer, tell: Any, state: str, reason: str, message: str) -> None:
        metrics = {"reason": reason, **trainer.summary}
        self._note(state=state, reason=reason, message=message, metrics=metrics, ended=time.time())
        tell(RunEnded(state=state, reason=reason, message=message, step=metrics["steps"], metrics=metrics))


def _kept(config: TrainConfig) -> dict[str, Any]:
    """The settings as run.json holds them, secrets too: the run goes on with them."""
    return config.model_dump(mode="json", context=REVEALED)


def _explained(error: BaseException) -> BaseException:
    """What `wait` raises: our own errors as they are, and a full memory in words."""
    if isinstance(error, AimassError):
        return error
    if is_out_of_memory(error):
        return out_of_memory()
    return error
