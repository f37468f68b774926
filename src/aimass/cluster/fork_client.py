"""The driver's end of a fork server, and the servers that wait for a run to come."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from aimass.cluster.alive import is_stopped

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
_LEAVE_S = 5.0
_idle: list[ForkServer] = []
_idle_lock = threading.Lock()


class ForkServer:
    """One fork server. One run uses it at a time; it stays warm for the next. Nothing here waits for it but `close`."""

    def __init__(self, preload: Sequence[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.socket, self.is_ready, self.is_gone = ours, False, False
        self.preload = frozenset(preload)
        command = [sys.executable, "-P", "-m", "aimass.cluster.fork_server", str(theirs.fileno()), *preload]
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True, env=_environment(), cwd="/"
        )
        theirs.close()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def ask(self, worker: int, descriptors: Sequence[int]) -> bool:
        """Ask for a worker. False when the server takes nothing just now: its buffer is full, or it is gone, as `receive` will tell."""
        try:
            socket.send_fds(self.socket, [str(worker).encode()], descriptors)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """One message and its descriptors; None when there is none, or the server is gone."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 1)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            message, descriptors = b"", []
        if not message:
            self.is_gone = True
            return None
        return json.loads(message), descriptors

    def kill(self) -> None:
        """End it now, and with it every worker that it has started."""
        self._process.kill()

    def close(self) -> None:
        """Let the server and whatever it started end."""
        self.socket.close()
        if is_stopped(self.pid):
            self._process.kill()
        try:
            self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def warm(preload: Sequence[str] = ()) -> None:
    """Start a fork server in the background, so that the first worker need not wait for it."""
    if sys.platform == "linux":
        with _idle_lock:
            if not any(server.preload.issuperset(preload) for server in _idle):
                _idle.append(ForkServer(preload))


def borrow(preload: Sequence[str]) -> ForkServer:
    """A server that waits for a run and has all of these modules, or else a new one."""
    with _idle_lock:
        fitting = next((server for server in _idle if server.preload.issuperset(preload)), None)
        if fitting is None:
            return ForkServer(preload)
        _idle.remove(fitting)
        return fitting


def give_back(server: ForkServer) -> None:
    """Keep a server for the next run; where one waits already, keep the one with more modules and end the others."""
    with _idle_lock:
        waiting = sorted([*_idle, server], key=lambda one: len(one.preload))
        _idle[:] = waiting[-1:]
    for other in waiting[:-1]:
        other.close()


def _environment() -> dict[str, str]:
    """The caller's, with one thread a worker, and with the caller's import path in case it was changed at run time."""
    return {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@atexit.register
def _close_idle() -> None:
    with _idle_lock:
        while _idle:
            _idle.pop().close()


def _forget_in_fork() -> None:
    """A fork of the driver must not speak with the driver's servers, nor keep them alive."""
    for server in _idle:
        server.socket.close()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_fork)
