"""What the folder of a run tells of it: the source of all that is known about a run.

runs/ID/run.json        what was asked for, on which data, and how it stands
        events.jsonl    what happened
        checkpoints/    states to go on from
        model/          the result
        logs/           what each worker printed
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from aimass.cluster.alive import process_start
from aimass.core.errors import NotFound, StorageError
from aimass.core.events import Envelope, read_events
from aimass.core.files import home as default_home
from aimass.core.files import write_json
from aimass.training import driven
from aimass.training.config import TrainConfig

RUNNING = "running"


class Record:
    """A run as it can be read, whichever process drives it.

    Args:
        folder: the run's.
        facts: what its `run.json` holds.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self.id = folder, str(facts["id"])
        self._facts = facts

    @property
    def _goes_here(self) -> bool:
        """Whether a thread of this process drives it, or did: its facts are then newer than its file."""
        return False

    # ------------------------------------------------------------------------------------------------------- finding

    @classmethod
    def open(cls, name: str | Path, home: Path | None = None) -> Self:
        """Find a run by its id, the beginning of it, or its folder.

        Raises:
            NotFound: there is none, or several begin alike.
        """
        folder = Path(name)
        if not (folder / "run.json").is_file():
            is_path = folder.name != str(name)
            found = [] if is_path else [path.parent for path in folder_of_runs(home).glob(f"{_escape(str(name))}*/run.json")]
            exact = [path for path in found if path.name == str(name)]
            if len(exact or found) != 1:
                some = f"{len(found)} runs begin with {name!r}" if found else f"there is no run {str(name)!r} in {folder_of_runs(home)}"
                raise NotFound(f"{some}; `aimass runs list` shows them")
            folder = (exact or found)[0]
        try:
            return cls(folder, json.loads((folder / "run.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError) as error:
            raise StorageError(
                f"{folder / 'run.json'} cannot be read ({error}); the run is lost, but its checkpoints may be whole"
            ) from error

    @classmethod
    def list(cls, home: Path | None = None) -> list[Self]:
        """Every run, the newest first. Folders that cannot be read are left out."""
        runs = []
        for path in folder_of_runs(home).glob("*/run.json"):
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
    def state(self) -> str:
        """`running`, `succeeded`, `failed`, `cancelled`, or `interrupted` when its process died."""
        state: str = self._facts["state"]
        if state == RUNNING and not self._goes_here:
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

    # ------------------------------------------------------------------------------------------------------- writing

    def _note(self, **changes: Any) -> None:
        if "pid" in changes:
            changes["process_started"] = process_start(changes["pid"])
        self._facts = {**self._facts, **changes}
        write_json(self.folder / "run.json", self._facts, private=bool(self._facts["config"].get("health", {}).get("webhook")))

    def _refresh(self) -> None:
        if not self._goes_here:
            _ = self.state

    def __repr__(self) -> str:
        return f"<Run {self.id}: {self.state}>"


def folder_of_runs(home: Path | None) -> Path:
    """Where the folders of all runs are."""
    return (home or default_home()) / "runs"


def _escape(name: str) -> str:
    return glob.escape(name) or "?"
