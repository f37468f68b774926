"""Telling a process that is there from another that had its number."""

import os
import subprocess
import sys

import psutil

from aimass.cluster.alive import is_alive, process_start


def test_a_clock_that_is_set_anew_makes_no_process_another_one(monkeypatch):
    started = process_start(os.getpid())
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 0.0)  # what the system reckons from its clock
    assert psutil.Process().create_time() < 10**9
    assert is_alive(os.getpid(), started)


def test_an_ended_process_is_not_there_even_before_it_is_reaped():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = process_start(process.pid)
    assert started is not None
    assert is_alive(process.pid, started)
    assert not is_alive(process.pid, started - 0.5)
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(process.pid) is None
    process.wait()
    assert process_start(process.pid) is None
