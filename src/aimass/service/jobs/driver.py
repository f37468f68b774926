"""The driver: the process that carries out one job. It knows its folder, and nothing of the service.

    python -m aimass.service.jobs.driver FOLDER EPOCH

1. hold the folder, unless another driver does, or the orders are already those of a later epoch
2. read the data; begin the run, or go on from its newest checkpoint
3. wait for its end; SIGTERM cancels it in order, and a checkpoint is kept
4. write result.json
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from aimass.core.errors import AimassError, Cancelled
from aimass.core.full_memory import is_out_of_memory, out_of_memory
from aimass.core.leaving import leave_lightly
from aimass.service.jobs.folder import JobFolder

if TYPE_CHECKING:
    from aimass.data.dataset import Dataset
    from aimass.training.run import Run
    from aimass.training.transfer import Named

_HEARTBEAT_S = 0.5
_NICENESS = 5
_KILL_ME_FIRST = "500"
_PACKAGES = ("aimass", "torch", "numpy", "pyarrow", "scikit-learn")


class _Stop:
    """SIGTERM: it is kept until `reading`; from then on it raises, and once training begins it cancels the run in order."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.is_asked = self.is_reading = False
        signal.signal(signal.SIGTERM, self._hear)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _hear(self, _: int, __: FrameType | None) -> None:
        first, self.is_asked = not self.is_asked, True
        if self.run is not None:
            self.run.cancel()
        elif first and self.is_reading:
            raise Cancelled("stopped before training began")

    def reading(self) -> None:
        """From now on there is nothing that a stop could break.

        Raises:
            Cancelled: it was asked for already.
        """
        self.is_reading = True
        if self.is_asked:
            raise Cancelled("stopped before training began")

    def started(self, run: Run) -> None:
        """The run to cancel. One that should have been cancelled already is cancelled now."""
        self.run = run
        if self.is_asked:
            run.cancel()


def main(path: Path, epoch: int) -> int:
    """Carry out the job in `path`, and return the exit status: 0 where there is a result."""
    folder, stop = JobFolder(path), _Stop()
    with folder.held(epoch) as lock:
        orders = folder.orders()
        if lock is None or orders is None or orders["epoch"] != epoch:
            sys.stderr.write("this job is in other hands\n")
            return 3
        _be_modest()
        threading.Thread(target=_beat, args=(lock,), daemon=True).start()
        try:
            stop.reading()
            result = _carry_out(folder, orders, stop)
        except AimassError as error:
            result = _ended_by(error)
        except (MemoryError, RuntimeError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            result = _ended_by(out_of_memory())  # the next driver would have no more of it
        folder.write_result({"epoch": epoch, "ended": time.time(), **result})
    return 0


def _ended_by(error: AimassError) -> dict[str, Any]:
    return {"state": "cancelled" if isinstance(error, Cancelled) else "failed", "message": str(error), "code": error.code}


def _carry_out(folder: JobFolder, orders: dict[str, Any], stop: _Stop) -> dict[str, Any]:
    from aimass.data import load

    options = dict(orders["data"]["options"])
    loaded = load(orders["data"]["source"], options.pop("target", None), **options)
    dataset = replace(loaded, name=orders["data"]["name"])  # people know it by its name; where its file lies is the service's business
    stop.is_reading = False
    began = time.time()
    run = _begin(folder, orders, dataset)
    stop.started(run)
    run.wait()
    if run.state == "cancelled":
        return {"state": "cancelled", "message": "it was asked to stop", "code": "cancelled", "run": run.id}
    return {"state": "succeeded", "message": "", "run": run.id, **_told(run, dataset, began)}


def _begin(folder: JobFolder, orders: dict[str, Any], dataset: Dataset) -> Run:
    """The job's one run: made, or gone on with from its newest checkpoint, or begun again where it has none."""
    from aimass.training.config import TrainConfig
    from aimass.training.run import Run
    from aimass.training.settling import FIXED
    from aimass.training.train import begin_again, resume, train

    known, config, start = folder.run(), orders["config"], _start(orders)
    if known is None:
        return train(dataset, home=folder.path, **{**config, "start_from": start})
    run = Run.open(known)
    if run.state == "succeeded" and (known / "model").is_dir():
        return run  # it was killed between its end and its result
    if folder.newest_step() >= 0:
        return resume(known, data=dataset, home=folder.path, **{name: value for name, value in config.items() if name not in FIXED})
    begin_again(run, TrainConfig.parse(config), dataset, start)
    return run


def _start(orders: dict[str, Any]) -> Named | None:
    """The model to begin with. People know it by its name in the registry; where it lies is the service's business."""
    known = orders.get("start")
    if known is None:
        return None
    from aimass.training.transfer import Named

    return Named(name=known["name"], folder=Path(known["folder"]))


def _told(run: Run, dataset: Dataset, began: float) -> dict[str, Any]:
    """What the model's card and the job's figures are made from."""
    metrics = run.metrics()
    test = run.model.evaluate(dataset.test) if len(dataset.test) else None
    epochs: Any = run.history()
    curve = [{name: epoch.get(name) for name in ("epoch", "step", "train_loss", "validation", "elapsed_s")} for epoch in epochs]
    rows = {"training": len(dataset.train), "validation": len(dataset.validation), "test": len(dataset.test)}
    return {
        "metrics": {**metrics, "test": test},
        "curve": curve,
        "data": {"name": dataset.name, "fingerprint": dataset.fingerprint, "task": dataset.task, "target": dataset.target, "rows": rows},
        "environment": {"python": platform.python_version(), "machine": platform.machine(), **_versions()},
        "duration_s": metrics.get("elapsed_s", round(time.time() - began, 3)),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _be_modest() -> None:
    """Leave the processor to those who answer requests, and be the one to go where the machine's memory is full."""
    os.nice(_NICENESS)
    try:
        Path("/proc/self/oom_score_adj").write_text(_KILL_ME_FIRST, encoding="ascii")
    except OSError:
        return  # not Linux, or not allowed


def _beat(lock: int) -> None:
    """Touch the lock, so that whoever comes later knows until when this process has worked."""
    while True:
        try:
            os.utime(lock)
        except OSError:
            return  # the folder was let go of
        time.sleep(_HEARTBEAT_S)


if __name__ == "__main__":
    leave_lightly()  # the service waits for it
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
