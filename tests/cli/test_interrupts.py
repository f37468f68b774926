"""Real signals to real processes."""

import signal
import time

import psutil
import pytest

from aimass.training.run import Run

ENDLESS = ("train", "digits", "--workers", "2", "--epochs", "1000000", "--checkpoint.every", "3600")

UNSTOPPABLE = """
import time
from aimass.cli.interrupts import StopInOrder

class Deaf:
    def cancel(self):
        print("asked", flush=True)

with StopInOrder() as stop:
    stop.starting()
    stop.started(Deaf())
    print("under way", flush=True)
    while True:
        time.sleep(0.01)
"""

STARTING = """
import time
from aimass.cli.interrupts import StopInOrder

class Polite:
    def cancel(self):
        print("asked", flush=True)

with StopInOrder() as stop:
    stop.starting()
    print("starting", flush=True)
    while not stop.is_asked:
        time.sleep(0.01)
    print("still here", flush=True)
    stop.started(Polite())
"""


def read_until(stream, text):
    """Lines up to the first that holds `text`."""
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} never came: {lines}")


def family_of(pid, size, timeout_s=120):
    """The processes below one, once there are so many: the first step may be done before the second worker is there."""
    deadline = time.monotonic() + timeout_s
    while len(family := psutil.Process(pid).children(recursive=True)) != size:
        assert time.monotonic() < deadline, family
        time.sleep(0.02)
    return family


def test_ctrl_c_stops_a_run_at_a_whole_checkpoint_leaves_no_process_and_it_goes_on_there(start, aimass):
    process = start(*ENDLESS)
    read_until(process.stderr, "step")
    family = family_of(process.pid, 3)  # the process that forks workers, and two of them
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "stopping after the current batch, writing a checkpoint" in err
    (run,) = Run.list()
    assert err.splitlines()[-1] == f"stopped at a whole checkpoint; go on with: aimass train --resume {run.id}"
    assert out == ""
    assert run.state == "cancelled"
    assert (run.folder / "checkpoints").is_dir()
    assert psutil.wait_procs(family, timeout=60)[1] == []
    steps = run.metrics()["steps"]
    outcome = aimass("train", "--resume", run.id, "--max-steps", steps + 5)
    assert outcome.status == 0, outcome.err
    assert f"going on from step {steps:,}" in outcome.err
    assert Run.open(run.id).metrics()["steps"] == steps + 5


def test_sigterm_is_as_good_and_for_programs_the_stop_is_an_object(start):
    import json

    process = start("train", "iris", "--max-steps", "1000000000", "--json")
    read_until(process.stderr, "step")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, json.loads(out)["error"]["code"]) == (130, "cancelled")
    (run,) = Run.list()
    assert f"stopped at a whole checkpoint; go on with: aimass train --resume {run.id}" in err
    assert (run.state, (run.folder / "checkpoints").is_dir()) == ("cancelled", True)


def test_the_second_signal_ends_the_process_at_once(start):
    process = start(code=UNSTOPPABLE)
    read_until(process.stdout, "under way")
    process.send_signal(signal.SIGINT)
    read_until(process.stdout, "asked")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=240)
    assert process.returncode == -signal.SIGINT


def test_a_signal_while_the_run_starts_waits_for_it(start):
    process = start(code=STARTING)
    read_until(process.stdout, "starting")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=240)
    assert out.split("\n") == ["still here", "asked", ""]
    assert process.returncode == 0


def test_a_signal_before_the_run_leaves_nothing_behind(home):
    import os

    from aimass.cli.interrupts import StopInOrder
    from aimass.core.errors import Cancelled

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Cancelled, match="before training began"), StopInOrder():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
