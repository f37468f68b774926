"""A driver's process, seen from the service: started, watched, asked to stop, killed."""

from __future__ import annotations

import os
import signal
import site
import sys
import time
from pathlib import Path

import psutil

from aimass.cluster.alive import is_alive

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONWARNINGS", "SSL_CERT_FILE")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_SINGLE_PSS = "Pss:"
_PAUSE_S = 0.02


def start(folder: Path, epoch: int, cpus: float, log: Path) -> int:
    """Start a driver in a session of its own, and return its number. Whoever starts it reaps it with `reap`."""
    command = [sys.executable, "-P", "-m", "aimass.service.jobs.driver", str(folder), str(epoch)]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    quiet = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    actions = (quiet, (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2))
    return os.posix_spawn(sys.executable, command, environment(folder, cpus), file_actions=actions, setsid=True)


def environment(folder: Path, cpus: float) -> dict[str, str]:
    """All that a driver's environment holds: where Python is, and how many threads it may use. No URL, no key, no home of a person."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    threads = dict.fromkeys(_THREADS, str(max(1, int(cpus))))
    return {
        **kept,
        **threads,
        "HOME": str(folder),
        "AIMASS_HOME": str(folder),
        "PYTHONUSERBASE": site.getuserbase(),
        "PYTHONUNBUFFERED": "1",
    }


def reap(pid: int) -> int | None:
    """The exit status of a child (a signal below zero) that has ended, and None while it runs."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0  # somebody else has reaped it
    return os.waitstatus_to_exitcode(status) if ended else None


def memory_bytes(pid: int, limit: int) -> int:
    """What a driver and all below it take, where memory that several share counts once.

    Args:
        limit: what is compared with; a tree that is surely below it is not looked at closely.
    """
    tree = _tree(pid)
    rough = sum(_resident(process) for process in tree)
    return rough if rough <= limit else sum(_proportional(process) for process in tree)


def ask_to_stop(pid: int, started: float) -> None:
    """SIGTERM."""
    _signal(pid, started, signal.SIGTERM)


def kill(pid: int, started: float, timeout_s: float = 10.0) -> bool:
    """End a driver and all below it at once. Returns whether it is gone."""
    below = _tree(pid)[1:] if is_alive(pid, started) else []
    _signal(pid, started, signal.SIGKILL)
    for process in below:
        try:
            process.kill()
        except psutil.Error:
            continue
    deadline = time.monotonic() + timeout_s
    while is_alive(pid, started) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    return not is_alive(pid, started)


def _signal(pid: int, started: float, number: int) -> None:
    try:
        if is_alive(pid, started):
            psutil.Process(pid).send_signal(number)
    except psutil.Error:
        return  # it has ended


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _proportional(process: psutil.Process) -> int:
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith(_SINGLE_PSS):
                return int(line.split()[1]) * 1024
    except OSError:
        return _resident(process)
    return _resident(process)
