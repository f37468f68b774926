"""A job's folder: all that its driver knows, and all that the driver tells.

jobs/ID/job.json        what the driver is to do, and under which epoch it was started      written by the runner
        data/           the file to train on, under its own ending
        start/          the model to begin with, where there is one
        driver.lock     held by the driver while it lives; says who it is; touched each second
        driver.log      what it printed
        runs/RUN/       the run: events, checkpoints, the model                               written by the driver
        result.json     how it ended, whole or not there
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimass.core.errors import storage_errors
from aimass.core.files import write_json
from aimass.service.jobs import process
from aimass.service.jobs.identity import Identity

_TAIL_BYTES = 8192
_LOG_LINES = 12
_LOCK_ATTEMPTS, _LOCK_PAUSE_S = 40, 0.05


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a job's folder, or held it last.

    Args:
        process: the driver.
        epoch: the one that it was started under.
        since: when it took the folder.
        seen: when it last gave a sign of life.
    """

    process: Identity
    epoch: int
    since: float
    seen: float


class JobFolder:
    """The folder of one job.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path / "driver.lock"
        self.log = path / "driver.log"

    # -------------------------------------------------------------------------------------------------- the runner's side

    def write_orders(self, orders: dict[str, Any]) -> None:
        """Say what the next driver is to do. A driver that was started under another epoch leaves when it reads this."""
        (self.path / "result.json").unlink(missing_ok=True)
        write_json(self.path / "job.json", orders)

    def orders(self) -> dict[str, Any] | None:
        """What the driver was told last."""
        return _read(self.path / "job.json")

    def result(self, epoch: int) -> dict[str, Any] | None:
        """How the driver that was started under this epoch ended, or None where it has not said."""
        found = _read(self.path / "result.json")
        return found if found is not None and found["epoch"] == epoch else None

    def holder(self) -> Holder | None:
        """Who held the folder last; it need not be alive. None where nobody ever did."""
        found = _read(self._lock)
        if found is None:
            return None
        seen = self._lock.stat().st_mtime
        return Holder(process=Identity(**found["process"]), epoch=found["epoch"], since=found["since"], seen=seen)

    def is_held(self) -> bool:
        """Whether a driver lives in it. The kernel lets go of the lock when its holder ends, however it ends."""
        try:
            with self._lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def end_holder(self) -> None:
        """Kill the driver that holds it, if one does on this machine."""
        holder = self.holder() if self.is_held() else None
        if holder is not None and holder.process.is_here:
            process.kill(holder.process.pid, holder.process.started)

    def run(self) -> Path | None:
        """The folder of the job's run."""
        found = sorted(path.parent for path in (self.path / "runs").glob("*/run.json"))
        return found[0] if found else None

    def newest_step(self) -> int:
        """The step of the newest checkpoint; -1 where there is none."""
        run = self.run()
        names = sorted(path.name for path in (run / "checkpoints").glob("step-*")) if run else []
        return int(names[-1].removeprefix("step-")) if names else -1

    def log_lines(self) -> str:
        """The last lines that the driver printed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            lines = []
        return "\n".join(lines[-_LOG_LINES:])

    def thin(self) -> None:
        """Keep the logs and the events of a job that has succeeded; what it was trained on and what it made are in the store."""
        run = self.run()
        for part in (self.path / "data", self.path / "start", *((run / "checkpoints", run / "model", run / "start") if run else ())):
            shutil.rmtree(part, ignore_errors=True)

    # -------------------------------------------------------------------------------------------------- the driver's side

    @contextmanager
    def held(self, epoch: int) -> Iterator[int | None]:
        """Hold the folder as its driver.

        Yields:
            the lock's descriptor; or None where another driver lives in the folder.
        """
        with storage_errors(self._lock):
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _lock(descriptor):
                yield None
                return
            content = {"process": Identity.of(os.getpid()).to_json(), "epoch": epoch, "since": time.time()}
            with storage_errors(self._lock):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(content).encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def write_result(self, result: dict[str, Any]) -> None:
        """Say how it ended. Nothing is written to the folder after this."""
        write_json(self.path / "result.json", result)


def _lock(descriptor: int) -> bool:
    """Take the lock. Someone who only asks whether it is held has it for a moment, so that is waited for."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)
        else:
            return True
    return False


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON file; None where it is not there, or its writer has not finished."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content
