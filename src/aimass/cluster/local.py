"""Workers on this machine, forked from a server that has torch imported already."""

from __future__ import annotations

import atexit
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import connection as connections
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from aimass.cluster.base import Cluster, Entry, Process
from aimass.core.errors import TrainingError, UsageError, storage_errors

_START_TIMEOUT_S = 120.0
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
_idle: list[_ForkServer] = []
_idle_lock = threading.Lock()


class _ForkServer:
    """The driver's end of one fork server. One run uses it at a time; it stays warm for the next."""

    def __init__(self, preload: Sequence[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket, self.is_ready, self.is_gone = ours, False, False
        command = [sys.executable, "-P", "-m", "aimass.cluster.fork_server", str(theirs.fileno()), *preload]
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True, env=_environment(), cwd="/"
        )
        theirs.close()

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """One message and its descriptors, or None when the server is gone."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 1)
        except ConnectionResetError:
            message, descriptors = b"", []
        if not message:
            self.is_gone = True
            return None
        return json.loads(message), descriptors

    def close(self) -> None:
        """Let the server and whatever it started end."""
        self.socket.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _environment() -> dict[str, str]:
    """The caller's, with one thread a worker, and with the caller's import path in case it was changed at run time."""
    return {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def warm(preload: Sequence[str] = ()) -> None:
    """Start a fork server in the background, so that the first worker need not wait for it."""
    if sys.platform == "linux":
        with _idle_lock:
            if not _idle:
                _idle.append(_ForkServer(preload))


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


class LocalCluster(Cluster):
    """Workers of one run on this machine.

    Args:
        preload: modules that the workers need, imported before they are forked.

    Raises:
        UsageError: the platform cannot fork workers safely.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = preload
        if sys.platform != "linux":
            raise UsageError("several workers need Linux (on Windows: WSL); here, train with workers=0")
        with _idle_lock:
            self._server = _idle.pop() if _idle else _ForkServer(preload)
        self._processes: dict[int, Process] = {}
        self._pidfds: dict[int, int] = {}
        self._next = 0
        self.wake_reader, self._wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def wake(self) -> None:
        """Make a waiting `poll` return; any thread and any signal handler may call it."""
        try:
            os.write(self._wake_writer, b"w")
        except OSError:
            return  # the pipe is full, so poll wakes anyway; or closed, so nobody waits

    def start(self, name: str, entry: Entry, payload: Any, descriptors: Sequence[int], log: Path) -> Process:
        if self._server.is_gone:
            self._bury_all()
            self._server.close()
            self._server = _ForkServer(self._preload)
        self._await_ready()
        ours, theirs = socket.socketpair()
        worker, self._next = self._next, self._next + 1
        with storage_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            socket.send_fds(self._server.socket, [str(worker).encode()], [theirs.fileno(), output, *descriptors])
        except (BrokenPipeError, ConnectionResetError):
            self._server.is_gone = True
            ours.close()
            return self.start(name, entry, payload, descriptors, log)
        finally:
            theirs.close()
            os.close(output)
        process = Process(name=name, connection=Connection(ours.detach()))
        self._processes[worker] = process
        self._give_orders(process, entry, payload)
        return process

    def _give_orders(self, process: Process, entry: Entry, payload: Any) -> None:
        import cloudpickle

        orders = {"name": process.name, "path": list(sys.path), "folder": str(Path.cwd()), "work": cloudpickle.dumps((entry, payload))}
        try:
            process.connection.send_bytes(pickle.dumps(orders))
        except (BrokenPipeError, ConnectionResetError):
            return  # it died at once; poll reports it

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._server.is_ready and not self._server.is_gone:
            if not connections.wait([self._server.socket], max(0.0, deadline - time.monotonic())):
                raise TrainingError(
                    f"the process that starts workers did not answer within {_START_TIMEOUT_S:.0f} s; is the machine overloaded?"
                )
            self._take(self._server.receive())
        if self._server.is_gone:
            raise TrainingError("the process that starts workers ended at once; its message is on standard error")

    def poll(self, timeout_s: float) -> list[Process]:
        alive = {p.connection.fileno(): p for p in self._processes.values() if p.is_alive and not p.details.get("closed")}
        ready = connections.wait([self._server.socket, self.wake_reader, *[p.connection for p in alive.values()]], timeout_s)
        if self.wake_reader in ready:
            os.read(self.wake_reader, 4096)
        self.hear()
        if self._server.is_gone:
            self._bury_all()
        ended = [worker for worker, process in self._processes.items() if not process.is_alive]
        return [self._processes.pop(worker) for worker in ended]

    def hear(self) -> None:
        """Take in what the fork server has said, without waiting."""
        while not self._server.is_gone and connections.wait([self._server.socket], 0):
            self._take(self._server.receive())

    def messages(self, process: Process) -> list[dict[str, Any]]:
        """What a worker has said since the last call."""
        said: list[dict[str, Any]] = []
        try:
            while not process.details.get("closed") and process.connection.poll():
                said.append(json.loads(process.connection.recv_bytes()))
        except (EOFError, OSError):  # it ended, perhaps in the middle of a message
            process.details["closed"] = True
        return said

    def kill(self, process: Process) -> None:
        for worker, known in self._processes.items():
            if known is process and worker in self._pidfds:
                try:
                    signal.pidfd_send_signal(self._pidfds[worker], signal.SIGKILL)
                except ProcessLookupError:
                    return  # it has ended already; poll reports it

    def close(self) -> None:
        deadline = time.monotonic() + 5
        while self._processes and time.monotonic() < deadline:
            for process in list(self._processes.values()):
                self.kill(process)  # again and again: one that was just started has no pid yet
            for process in self.poll(0.02):
                process.connection.close()
        clean = not self._processes and not self._server.is_gone
        for descriptor in (self.wake_reader, self._wake_writer):
            os.close(descriptor)
        with _idle_lock:
            if clean and not _idle:
                _idle.append(self._server)
                return
        self._server.close()

    def _take(self, received: tuple[dict[str, Any], list[int]] | None) -> None:
        if received is None:
            return
        message, descriptors = received
        if "ready" in message:
            self._server.is_ready = True
        elif "started" in message:
            self._processes[message["started"]].pid = message["pid"]
            self._pidfds[message["started"]] = descriptors[0]
        else:
            self._processes[message["exited"]].exit_status = message["status"]
            os.close(self._pidfds.pop(message["exited"]))

    def _bury_all(self) -> None:
        """The server is gone, and the kernel kills its workers: wait until each has really ended."""
        for worker, process in self._processes.items():
            pidfd = self._pidfds.pop(worker, None)
            if pidfd is not None:
                connections.wait([pidfd], 5.0)
                os.close(pidfd)
            if process.exit_status is None:
                process.exit_status = -signal.SIGKILL
