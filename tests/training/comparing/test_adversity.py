"""Processes that are killed when it is time, and no other."""

import signal
import subprocess
import sys

import pytest

from aimass.core.events import Envelope
from aimass.training.comparing.adversity import Kill, Killer, read_kills

PATIENT = [sys.executable, "-c", "input()"]


@pytest.fixture
def start():
    """Starts processes that wait; whatever is left at the end is ended."""
    started = []

    def begin():
        started.append(subprocess.Popen(PATIENT, stdin=subprocess.PIPE))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.stdin.close()
        process.wait()


def event(kind, **data):
    return Envelope(run="run", seq=0, time=0.0, type=kind, data=data)


def run_started(total_steps=100):
    facts = {"data": "iris", "rows": 1, "parameters": 1, "strategy": "async_sgd", "workers": 2, "batches_per_epoch": 10, "epochs": 10}
    return event("run_started", total_steps=total_steps, **facts)


def worker_started(worker, process):
    return event("worker_started", worker=worker, pid=process.pid, replaces_dead=False)


def epoch(step):
    return event("epoch", epoch=1, step=step, train_loss=1.0)


def test_a_moment_that_never_comes_is_waited_for_all_the_same(start):
    killer, other = Killer(read_kills("0@99999999999999s")), start()
    killer.hear(run_started())
    killer.hear(worker_started(0, other))
    assert len(killer.close()) == 1
    assert other.poll() is None


@pytest.mark.parametrize("kill", ["1@50%", "1@50"])
def test_a_worker_is_killed_when_so_many_steps_are_done(start, kill):
    killer, others = Killer(read_kills(kill)), [start(), start()]
    for told in (run_started(), worker_started(0, others[0]), worker_started(1, others[1]), epoch(49)):
        killer.hear(told)
    assert others[1].poll() is None
    killer.hear(epoch(50))
    assert others[1].wait(60) == -signal.SIGKILL
    killer.hear(epoch(60))
    assert killer.close() == []
    assert others[0].poll() is None


def test_one_that_is_not_there_when_it_is_time_is_killed_as_it_comes(start):
    killer, process = Killer([Kill(worker=0, after_s=0.0)]), start()
    killer.hear(run_started())
    for timer in killer._timers:
        timer.join(60)
    killer.hear(worker_started(0, process))
    assert process.wait(60) == -signal.SIGKILL
    assert killer.close() == []


def test_a_process_that_has_ended_is_let_rest_and_its_successor_is_killed(start):
    killer, processes = Killer(read_kills("0@5")), [start(), start()]
    killer.hear(run_started())
    killer.hear(worker_started(0, processes[0]))
    processes[0].kill()
    processes[0].wait(60)
    killer.hear(epoch(5))
    killer.hear(worker_started(0, processes[1]))
    assert processes[1].wait(60) == -signal.SIGKILL
    assert killer.close() == []


def test_whom_it_did_not_come_to_is_told():
    killer = Killer(read_kills({0: 600, 1: "50%"}))
    killer.hear(run_started())
    assert [kill.moment for kill in killer.close()] == ["600 s", "50% of the steps"]
