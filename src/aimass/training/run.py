"""A run: the handle with a story. Its folder is the source of all that is known about it.

runs/ID/run.json        what was asked for, on which data, and how it stands
        events.jsonl    what happened
        checkpoints/    states to go on from
        model/          the result
        logs/           what each worker printed
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aimass.cluster.alive import process_start
from aimass.core.errors import AimassError, Cancelled, Conflict, NotFound, StorageError, TrainingError
from aimass.core.events import Envelope, EventLog, read_events
from aimass.core.files import home as default_home
from aimass.core.files import write_json
from aimass.core.full_memory import describe_memory, is_out_of_memory
from aimass.training import driven
from aimass.training.config import TrainConfig
from aimass.training.events import RunEnded
from aimass.training.health.config import REVEALED
from aimass.training.health.teller import Teller
from aimass.training.workers.elastic import Wishes

if TYPE_CHECKING:
    from torch import nn

    from aimass.data.dataset import Dataset
    from aimass.models.model import Model
    from aimass.training.trainer import Trainer
    from aimass.training.transfer import Prepared

RUNNING = "running"


class Run:
    """One training from start to end.

    Make one with `aimass.train`, or open one that exists with `Run.open`.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self.id = folder, str(facts["id"])
        self._facts = facts
        self._data: Dataset | None = None
        self._module: nn.Module | None = None
        self._trainer: Trainer | None = None
        self._thread: threading.Thread | None = None
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._model: Model | None = None

    # -------------------------------------------------------------------------------------------- making and finding

    @classmethod
    def create(cls, config: TrainConfig, data: Dataset, module: nn.Module | None, home: Path | None = None) -> Run:
        """Make a run's folder. Nothing is trained yet."""
        now = time.time()
        identity = f"run-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(3)}"
        folder = _runs(home) / identity
        described = {"name": data.name, "fingerprint": data.fingerprint, "origin": data.origin, "task": data.task}
        facts = {"v": 1, "id": identity, "created": now, "config": _kept(config), "data": described, "state": RUNNING}
        run = cls(folder, facts)
        run._data, run._module = data, module
        run._note(state=RUNNING, pid=os.getpid())
        return run

    @classmethod
    def open(cls, name: str | Path, home: Path | None = None) -> Run:
        """Find a run by its id, the beginning of it, or its folder.

        Raises:
            NotFound: there is none, or several begin alike.
        """
        folder = Path(name)
        if not (folder / "run.json").is_file():
            is_path = folder.name != str(name)
            found = [] if is_path else [path.parent for path in _runs(home).glob(f"{_escape(str(name))}*/run.json")]
            exact = [path for path in found if path.name == str(name)]
            if len(exact or found) != 1:
                some = f"{len(found)} runs begin with {name!r}" if found else f"there is no run {str(name)!r} in {_runs(home)}"
                raise NotFound(f"{some}; `aimass runs list` shows them")
            folder = (exact or found)[0]
        try:
            return cls(folder, json.loads((folder / "run.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError) as error:
            raise StorageError(
                f"{folder / 'run.json'} cannot be read ({error}); the run is lost, but its checkpoints may be whole"
            ) from error

    @classmethod
    def list(cls, home: Path | None = None) -> list[Run]:
        """Every run, the newest first. Folders that cannot be read are left out."""
        runs = []
        for path in _runs(home).glob("*/run.json"):
            try:
                runs.append(cls.open(path.parent))
            except StorageError:
                continue
        return sorted(runs, key=lambda run: run._facts["created"], reverse=True)

    # -------------------------------------------------------------------------------------------------- its own story

    @property
    def config(self) -> TrainConfig:
        """What was asked for."""
        return TrainConfig.parse(self._facts["config"])

    @property
    def source(self) -> dict[str, Any]:
        """The data it was started on: `name`, `fingerprint`, `task`, and `origin`, the arguments that load it again, or None."""
        source: dict[str, Any] = self._facts["data"]
        return source

    @property
    def data(self) -> Dataset | None:
        """The data set, where this process trains or has trained on it."""
        return self._data

    @property
    def state(self) -> str:
        """`running`, `succeeded`, `failed`, `cancelled`, or `interrupted` when its process died."""
        state: str = self._facts["state"]
        if state == RUNNING and self._thread is None:
            fresh: dict[str, Any] = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
            self._facts = fresh
            state = fresh["state"]
            if state == RUNNING and not driven.is_driven(self.id, fresh):
                return "interrupted"
        return state

    def events(self, after: int = -1) -> Iterator[Envelope]:
        """What has happened so far, in order: the events whose `seq` is above `after`."""
        return read_events(self.folder / "events.jsonl", after)

    def history(self) -> list[dict[str, Any]]:  # type: ignore[valid-type]
        """The epochs so far. An epoch that a resumed run did again is there once."""
        epochs: dict[int, dict[str, Any]] = {}
        for envelope in self.events():
            if envelope.type == "epoch":
                epochs[envelope.data["epoch"]] = envelope.data
        return [epochs[number] for number in sorted(epochs)]

    def samples(self) -> list[dict[str, Any]]:  # type: ignore[valid-type]
        """What each process cost and got done, every few seconds: `time`, `driver` and `workers`, as `WorkersSampled` has them."""
        return [{"time": envelope.time, **envelope.data} for envelope in self.events() if envelope.type == "workers_sampled"]

    def metrics(self) -> dict[str, Any]:
        """How it went: steps, losses, the metrics of the last and of the best epoch, and what ended it.

        Raises:
            NotFound: the run has not ended; `events` tells how it stands.
        """
        self._refresh()
        if "metrics" not in self._facts:
            raise NotFound(f"{self.id} has no metrics yet: it is {self.state}; call wait() first")
        metrics: dict[str, Any] = self._facts["metrics"]
        return metrics

    def summary(self) -> dict[str, Any]:
        """One row about the run, for lists."""
        state, config = self.state, self._facts["config"]
        row = {
            "id": self.id,
            "state": state,
            "data": self._facts["data"]["name"],
            "model": config["model"]["name"],
            "strategy": config["strategy"]["name"],
            "workers": config["workers"],
            "created": self._facts["created"],
        }
        return {**row, "metrics": self._facts.get("metrics"), "message": self._facts.get("message")}

    def plot(self, path: str | Path) -> Path:
        """Draw the learning curve. The file's ending says the format."""
        from aimass.models.tasks import build_task
        from aimass.training.showing.plot import plot_history

        primary = build_task(self._facts["data"]["task"]).primary[0]
        config = self._facts["config"]
        title = f"{self._facts['data']['name']}: {config['model']['name']} by {config['strategy']['name']}, {config['workers']} workers"
        return plot_history(self.history(), Path(path), title, primary)

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

    def _note(self, **changes: Any) -> None:
        if "pid" in changes:
            changes["process_started"] = process_start(changes["pid"])
        self._facts = {**self._facts, **changes}
        write_json(self.folder / "run.json", self._facts, private=bool(self._facts["config"].get("health", {}).get("webhook")))

    def _refresh(self) -> None:
        if self._thread is None:
            _ = self.state

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.state}>"


def _kept(config: TrainConfig) -> dict[str, Any]:
    """The settings as run.json holds them, secrets too: the run goes on with them."""
    return config.model_dump(mode="json", context=REVEALED)


def _explained(error: BaseException) -> BaseException:
    """What `wait` raises: our own errors as they are, and a full memory in words."""
    if isinstance(error, AimassError):
        return error
    if is_out_of_memory(error):
        return TrainingError(f"the memory is full: {describe_memory()}; lower batch_size, use a smaller model, or fewer workers")
    return error


def _runs(home: Path | None) -> Path:
    return (home or default_home()) / "runs"


def _escape(name: str) -> str:
    import glob

    return glob.escape(name) or "?"
