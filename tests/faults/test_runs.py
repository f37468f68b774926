"""A run whose driver, workers, disk or data fail."""

import json
import os
import re
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
from aimass.core.errors import Cancelled, Conflict, StorageError, TrainingError, UsageError
from aimass.training.run import Run
from aimass.training.workers.elastic import Wishes


def wait_until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def events_of(run, kind):
    return [envelope.data for envelope in run.events() if envelope.type == kind]


LONG = {"model": {"name": "mlp", "hidden": [64]}, "batch_size": 8, "epochs": 100_000, "checkpoint": {"every": 0.2}}

DRIVER = """
import os, signal, sys, threading
import aimass
from aimass.core import files
count, rename = 0, os.rename
def die():
    if threading.current_thread().name == "checkpoints":  # beside the training, and not on its way
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit("a checkpoint was written on the training path")
def die_before_the_third_checkpoint_is_in_place(*arguments):
    global count
    count += "step-" in str(arguments[1])
    if count == 3:
        die()
    rename(*arguments)
if sys.argv[2] == "rename":
    files.os.rename = die_before_the_third_checkpoint_is_in_place
elif sys.argv[2] == "tensors":
    writev = os.writev
    def die_inside_a_file(file, parts):
        global count
        count += "optimizer.safetensors" in os.readlink(f"/proc/self/fd/{file}")
        if count == 3:
            writev(file, [part[: len(part) // 2] for part in parts])
            die()
        return writev(file, parts)
    files.os.writev = die_inside_a_file
else:
    flush = files._flush
    def die_while_writing(path):
        global count
        count += path.name == "optimizer.safetensors"
        if count == 3:
            os.truncate(path, 10)
            die()
        flush(path)
    files._flush = die_while_writing
model = {"name": "mlp", "hidden": [64]}
aimass.train("digits", workers=int(sys.argv[1]), model=model, batch_size=8, epochs=100_000, checkpoint={"every": 0.2}).wait()
"""


@pytest.mark.parametrize(("moment", "workers"), [("rename", 2), ("tensors", 0), ("write", 2)])
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
    run = aimass.train("digits", workers=2, **LONG)
    wait_until(lambda: events_of(run, "epoch"))
    for killed in range(4):
        wait_until(lambda: len(events_of(run, "worker_started")) == 2 + killed)  # noqa: B023
        os.kill(events_of(run, "worker_started")[-1]["pid"], signal.SIGKILL)
        wait_until(lambda: len(events_of(run, "worker_lost")) == 1 + killed)  # noqa: B023
    wait_until(lambda: len(events_of(run, "worker_started")) == 6)
    run.cancel()
    run.wait()
    assert run.metrics()["workers_lost"] == 4
    assert [event["replaces_dead"] for event in events_of(run, "worker_started")] == [False] * 2 + [True] * 4
    epochs = len(run.history()) + 1
    again = run.resume(epochs=epochs).wait()
    assert again.metrics()["steps"] == epochs * 180


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_when_the_fork_server_is_killed_or_stopped_everybody_is_replaced(how):
    run = aimass.train("digits", workers=2, **LONG)
    wait_until(lambda: events_of(run, "epoch"))
    pids = [event["pid"] for event in events_of(run, "worker_started")]
    server = psutil.Process(pids[0]).parent()
    server.send_signal(how)
    if how == signal.SIGSTOP:
        os.kill(pids[0], signal.SIGKILL)  # of which the server then says nothing
    wait_until(lambda: len(events_of(run, "worker_started")) >= 4)
    seen = len(events_of(run, "epoch"))
    wait_until(lambda: len(events_of(run, "epoch")) > seen + 2)
    run.cancel()
    run.wait()
    assert run.state == "cancelled"
    assert not any(is_running(pid) for pid in [*pids, server.pid])


SCALED = """
import sys
import aimass
print(aimass.train("digits", workers=(1, 3), model={"name": "mlp", "hidden": [64]}, batch_size=8, epochs=100_000,
                   checkpoint={"every": 0.1}).id, flush=True)
"""


def test_a_driver_killed_while_it_scales_leaves_nobody_and_is_resumed_with_its_range(own_home):
    with subprocess.Popen([sys.executable, "-c", SCALED], stdout=subprocess.PIPE, text=True) as driver:
        run = Run.open(driver.stdout.readline().strip())
        wait_until(lambda: events_of(run, "checkpoint"))
        run.scale(1)
        wait_until(lambda: events_of(run, "scaled"))
        run.scale(3)
        wait_until(lambda: len(events_of(run, "scaled")) == 2)  # some of them are just being started
        driver.kill()
    pids = [event["pid"] for event in events_of(run, "worker_started")]
    wait_until(lambda: not any(is_running(pid) for pid in pids))
    assert run.state == "interrupted"
    with pytest.raises(Conflict, match="is interrupted, and only a run that goes can be scaled; resume it with workers=2"):
        run.scale(2)
    Wishes(run.folder).leave(2)  # what came too late is not done when it goes on
    epochs = int(events_of(run, "checkpoint")[-1]["step"]) // 180 + 2
    again = run.resume(epochs=epochs).wait()
    assert again.metrics()["steps"] == epochs * 180
    assert str(again.config.worker_range) == "1:3"
    assert len(events_of(again, "scaled")) == 2


SHORT_OF_MEMORY = """
import resource
from pathlib import Path
import aimass
from aimass.core.errors import AimassError
data = aimass.data.load("digits")
aimass.train(data, epochs=1).wait()
for workers, more in ((0, 40), (2, 300)):
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more * 10**6, resource.RLIM_INFINITY))
    try:
        aimass.train(data, workers=workers, model={"name": "mlp", "hidden": [20_000, 1000]}, epochs=3).wait()
    except AimassError as error:
        print(error)
"""


def test_a_driver_without_memory_ends_with_a_sentence():
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, timeout=120, check=True)
    alone, with_workers = done.stdout.splitlines()
    assert re.match(r"the memory is full: it had \d+ MB, and may have \d+ MB of addresses \(ulimit -v\); lower batch_size, use", alone)
    assert re.match(r"\d+ MB of shared memory could not be had \(.*\); use fewer workers or a smaller model", with_workers)


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


def _functions(frame):
    """The code of all that a thread is inside of."""
    found = set()
    while frame is not None:
        found.add(frame.f_code)
        frame = frame.f_back
    return found


def test_ctrl_c_while_waiting_stops_in_good_order():
    run = aimass.train("digits", workers=2, **LONG)
    wait_until(lambda: events_of(run, "epoch"))
    waiting = threading.get_ident()

    def press():
        """As soon as the other thread waits: sooner it would end the tests."""
        wait_until(lambda: {Run.wait.__code__, threading.Event.wait.__code__} <= _functions(sys._current_frames()[waiting]))
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    with pytest.raises(Cancelled, match=f"aimass train --resume {run.id}"):
        pressing.start()
        run.wait()
    pressing.join()
    assert run.state == "cancelled"
    assert sorted((run.folder / "checkpoints").glob("step-*"))


FULL = """
import json, pathlib, sys, time
import aimass
from aimass.core.errors import AimassError
model = {"name": "mlp", "hidden": [4000, 500]}
run = aimass.train("digits", workers=int(sys.argv[1]), model=model, epochs=1000, checkpoint={"every": 0.1}, batch_size=64)
def count(kind):
    return sum(event.type == kind for event in run.events())
def wait_for(kind, times):
    deadline = time.monotonic() + 90
    while count(kind) < times:
        assert run.state == "running" and time.monotonic() < deadline, (kind, run.state)
        time.sleep(0.05)
try:
    wait_for("checkpoint_failed", 1)
    ballast = pathlib.Path(sys.argv[2])
    ballast.unlink()                                       # it has room again
    wait_for("checkpoint", count("checkpoint") + 1)
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):                 # and now no byte is left, not even for events
                pass
        except OSError:
            pass
    seen = run._trainer.server.clock
    while run._trainer.server.clock < seen + 20:
        assert run.state == "running"
        time.sleep(0.05)
    run.cancel()
    run.wait()
except AimassError as error:
    print(json.dumps({"message": str(error), "exit": error.exit_code, "type": type(error).__name__}))
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_trains_on_while_its_disk_is_full_and_fails_only_when_it_ends_on_one(workers, tmp_path):
    """On a file system of 95 MB of its own; each checkpoint takes about 28, and three are there before the oldest goes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=95m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        environment = {**os.environ, "AIMASS_HOME": str(disk / "home")}
        (disk / "ballast").write_bytes(b"x" * (20 << 20))
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(workers), str(disk / "ballast")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["type"] == StorageError.__name__
        assert said["exit"] == 6
        assert "no space is left" in said["message"]
        (run,) = Run.list(disk / "home")
        assert run.state in ("failed", "interrupted")
        kept = sorted(path.name for path in (run.folder / "checkpoints").glob("*-*"))
        assert len(kept) == 2
        (disk / "ballast").unlink()
        again = run.resume(workers=0, epochs=None, max_steps=int(kept[-1].removeprefix("step-")) + 1, checkpoint={"keep": 1}).wait()
        assert again.state == "succeeded"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
