"""A run whose driver, workers, disk or data fail."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from processes import is_running

import aimass
from aimass.core.errors import Cancelled, StorageError, TrainingError, UsageError
from aimass.training.run import Run


def wait_until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def events_of(run, kind):
    return [envelope.data for envelope in run.events() if envelope.type == kind]


LONG = {"model": {"name": "mlp", "hidden": [64]}, "batch_size": 8, "epochs": 100_000, "checkpoint": {"every": 0.2}}

DRIVER = """
import os, signal, sys
import aimass
from aimass.core import files
count, rename = 0, os.rename
def die_before_the_third_checkpoint_is_in_place(*arguments):
    global count
    count += "step-" in str(arguments[1])
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*arguments)
if sys.argv[2] == "rename":
    files.os.rename = die_before_the_third_checkpoint_is_in_place
else:
    flush = files._flush
    def die_while_writing(path):
        global count
        count += path.name == "optimizer.safetensors"
        if count == 3:
            os.truncate(path, 10)
            os.kill(os.getpid(), signal.SIGKILL)
        flush(path)
    files._flush = die_while_writing
model = {"name": "mlp", "hidden": [64]}
aimass.train("digits", workers=int(sys.argv[1]), model=model, batch_size=8, epochs=100_000, checkpoint={"every": 0.2}).wait()
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("moment", ["rename", "write"])
def test_a_driver_killed_inside_a_checkpoint_is_resumed_from_a_whole_one(workers, moment, own_home):
    done = subprocess.run([sys.executable, "-c", DRIVER, str(workers), moment], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (run,) = Run.list()
    assert run.state == "interrupted"
    folder = run.folder / "checkpoints"
    assert len(list(folder.glob(".unfinished-*"))) == 1
    (newest,) = sorted(path.name for path in folder.glob("step-*"))[-1:]
    steps = int(newest.removeprefix("step-"))

    again = run.resume(epochs=-(-steps // 180) + 1).wait()
    assert again.state == "succeeded"
    assert events_of(again, "run_started")[-1]["resumed_at_step"] == steps
    assert again.metrics()["steps"] == (-(-steps // 180) + 1) * 180
    assert not list(folder.glob(".unfinished-*"))


def test_a_resumed_run_in_one_process_ends_where_an_undisturbed_one_does():
    settings = {"model": {"name": "mlp", "dropout": 0.3}, "optimizer": "adam", "schedule": "cosine", "seed": 5}
    whole = aimass.train("wine", epochs=20, **settings).wait()
    first = aimass.train("wine", epochs=20, **settings, lease={"batches": 1}, checkpoint={"every": 0.001})
    first.cancel()
    first.wait()
    assert first.state == "cancelled"
    assert first.metrics()["steps"] < 100
    second = first.resume().wait()
    assert second.metrics()["steps"] == whole.metrics()["steps"]
    for (_, expected), (_, found) in zip(whole.model.module.named_parameters(), second.model.module.named_parameters(), strict=True):
        assert torch.equal(expected, found)


def test_a_checkpoint_that_was_damaged_is_passed_over_with_a_word():
    run = aimass.train("wine", epochs=30, checkpoint={"every": 0.01, "keep": 5}).wait()
    newest = sorted((run.folder / "checkpoints").glob("step-*"))[-1]
    (newest / "parameters.safetensors").write_bytes(b"not a tensor")
    again = run.resume(epochs=31).wait()
    assert again.state == "succeeded"
    assert newest.name in [event["name"] for event in events_of(again, "checkpoint_unreadable")]
    assert events_of(again, "run_started")[-1]["resumed_at_step"] < int(newest.name.removeprefix("step-"))


def test_killed_workers_are_replaced_and_the_run_ends_with_every_step():
    run = aimass.train("digits", workers=2, epochs=150, batch_size=16)
    killed = 0
    while run.state == "running" and killed < 5:
        started = events_of(run, "worker_started")
        if len(started) >= 2 + killed and events_of(run, "epoch"):
            os.kill(started[-1]["pid"], signal.SIGKILL)
            killed += 1
            wait_until(lambda: len(events_of(run, "worker_lost")) >= killed or run.state != "running")  # noqa: B023
    run.wait()
    assert killed >= 3
    assert run.metrics()["workers_lost"] == killed
    assert run.metrics()["steps"] == 150 * 90
    assert sum(event["replaces_dead"] for event in events_of(run, "worker_started")) == killed


def test_when_the_fork_server_is_killed_everybody_is_replaced():
    run = aimass.train("digits", workers=2, **LONG)
    wait_until(lambda: events_of(run, "epoch"))
    pids = [event["pid"] for event in events_of(run, "worker_started")]
    psutil.Process(pids[0]).parent().kill()
    wait_until(lambda: len(events_of(run, "worker_started")) >= 4)
    seen = len(events_of(run, "epoch"))
    wait_until(lambda: len(events_of(run, "epoch")) > seen + 2)
    run.cancel()
    run.wait()
    assert run.state == "cancelled"
    assert not any(is_running(pid) for pid in pids)


def test_a_stopped_worker_loses_its_lease_or_its_life_and_the_run_goes_on():
    run = aimass.train("digits", workers=2, lease={"timeout": 1}, **LONG)
    wait_until(lambda: events_of(run, "epoch"))
    pid = events_of(run, "worker_started")[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: any(e["reason"] == "late" for e in events_of(run, "lease_reassigned")) or events_of(run, "worker_stuck"))
    seen = len(events_of(run, "epoch"))
    wait_until(lambda: len(events_of(run, "epoch")) > seen + 2)
    if is_running(pid):
        os.kill(pid, signal.SIGCONT)
    run.cancel()
    run.wait()
    assert run.state == "cancelled"


def test_cancel_leaves_a_checkpoint_and_no_process_and_resume_goes_on():
    run = aimass.train("digits", workers=2, **LONG)
    wait_until(lambda: events_of(run, "epoch"))
    pids = [event["pid"] for event in events_of(run, "worker_started")]
    run.cancel()
    run.wait()
    assert run.metrics()["reason"] == "cancelled"
    assert not any(is_running(pid) for pid in pids)
    steps = run.metrics()["steps"]
    again = run.resume(stop={"max_steps": steps + 100, "epochs": None}).wait()
    assert again.metrics()["steps"] == steps + 100
    assert again.metrics()["reason"] == "max_steps"


class Explodes(torch.nn.Linear):
    """Gives NaN for rows whose first number is above the limit."""

    def __init__(self, limit):
        super().__init__(13, 3)
        self.limit = limit

    def forward(self, numbers):
        outputs = super().forward(numbers)
        return outputs * float("nan") if numbers[:, 0].max() > self.limit else outputs


@pytest.mark.parametrize("workers", [0, 2])
def test_a_gradient_with_nan_is_refused_counted_and_told(workers):
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    data = aimass.data.load("wine")
    limit = float(np.sort(data.train.encoded.numbers[:, 0])[-2])
    run = aimass.train(data, model=Explodes(limit), workers=workers, epochs=4, batch_size=8).wait()
    assert run.metrics()["gradients_refused"] == 4
    assert sum(event["count"] for event in events_of(run, "gradient_refused")) == 4
    assert all(torch.isfinite(parameter).all() for parameter in run.model.module.parameters())
    assert run.metrics()["steps"] == 72


@pytest.mark.parametrize("workers", [0, 2])
def test_a_model_that_gives_nothing_but_nan_ends_the_run_with_advice(workers):
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    run = aimass.train("wine", model=Explodes(-1e9), workers=workers, epochs=500)
    with pytest.raises(TrainingError, match=r"NaN or infinity.*lower optimizer\.lr"):
        run.wait()
    assert run.state == "failed"


class Raises(torch.nn.Linear):
    def __init__(self):
        super().__init__(13, 3)

    def forward(self, numbers):
        if self.training:
            raise ValueError("these are not the numbers I know")
        return super().forward(numbers)


def test_a_module_that_does_not_fit_the_data_is_refused_before_a_process_starts():
    run = aimass.train("wine", model=torch.nn.Linear(13, 2), workers=2)
    with pytest.raises(UsageError, match="let its last layer have 3 outputs"):
        run.wait()
    assert not events_of(run, "worker_started")


def test_a_module_that_raises_in_a_worker_ends_the_run_with_its_words():
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    run = aimass.train("wine", model=Raises(), workers=2)
    with pytest.raises(TrainingError, match="these are not the numbers I know"):
        run.wait()
    log = Path(str(run._facts["message"]).rpartition(" ")[2])
    assert "Traceback" in log.read_text()


def test_ctrl_c_while_waiting_stops_in_good_order():
    run = aimass.train("digits", workers=2, **LONG)
    wait_until(lambda: events_of(run, "epoch"))
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(Cancelled, match=f"aimass train --resume {run.id}"):
        run.wait()
    assert run.state == "cancelled"
    assert sorted((run.folder / "checkpoints").glob("step-*"))


FULL = """
import json, sys
import aimass
from aimass.core.errors import AimassError
model = {"name": "mlp", "hidden": [4000, 500]}
run = aimass.train("digits", workers=int(sys.argv[1]), model=model, epochs=1000, checkpoint={"every": 0.2}, batch_size=64)
try:
    run.wait()
except AimassError as error:
    print(json.dumps({"message": str(error), "exit": error.exit_code, "type": type(error).__name__}))
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_ends_the_run_with_a_sentence_and_leaves_what_was_whole(workers, tmp_path):
    """On a file system of 80 MB of its own; each checkpoint takes about 28."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        environment = {**os.environ, "AIMASS_HOME": str(disk / "home")}
        (disk / "ballast").write_bytes(b"x" * (10 << 20))
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(workers)], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        said = json.loads(done.stdout)
        assert said["type"] == StorageError.__name__
        assert said["exit"] == 6
        assert "no space is left" in said["message"]
        (run,) = Run.list(disk / "home")
        assert run.state in ("failed", "interrupted")
        assert not list((run.folder / "checkpoints").glob(".unfinished-*"))
        (disk / "ballast").unlink()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
