"""Workers on this machine, forked from a server that has torch imported already.

The driver never waits for the server or for a worker: requests, orders and answers are passed on whenever `poll` or `hear` is
called. A server that owes an answer and was stopped, or does not give it in time, is killed. Its workers end with it, and
another server starts the next ones.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection as connections
from pathlib import Path
from typing import Any

from aimass.cluster.alive import is_stopped
from aimass.cluster.base import Cluster, Entry, Process
from aimass.cluster.fork_client import ForkServer, borrow, give_back
from aimass.cluster.own_time import OwnTime
from aimass.cluster.wire import Wire
from aimass.core.errors import TrainingError, UsageError, storage_errors

_START_S = 120.0  # for a server to import what workers need
_ANSWER_S = 30.0  # for a server to fork
_STOPPED_S = 2.0
_WATCH_S = 0.2
_CLOSE_S = 10.0
_SERVERS_IN_VAIN = 3
_MARKED = "condemned"


@dataclass(frozen=True)
class _Request:
    """A worker that the server has not been asked for yet."""

    worker: int
    descriptors: Sequence[int]
    own: Sequence[int]  # those among them that are ours to close

    def close(self) -> None:
        for descriptor in self.own:
            os.close(descriptor)


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
        self._server = borrow(preload)
        self._servers_in_vain = 0
        self._processes: dict[int, Process] = {}
        self._pidfds: dict[int, int] = {}
        self._requests: deque[_Request] = deque()
        self._asked: set[int] = set()
        self._next = 0
        self.time = OwnTime()
        self._owed_since: float | None = None  # since when the server owes an answer
        self._next_watch = 0.0
        self.wake_reader, self._wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def wake(self) -> None:
        """Make a waiting `poll` return; any thread and any signal handler may call it."""
        try:
            os.write(self._wake_writer, b"w")
        except OSError:
            return  # the pipe is full, so poll wakes anyway; or closed, so nobody waits

    # ------------------------------------------------------------------------------------------------ start and end

    def start(self, name: str, entry: Entry, payload: Any, descriptors: Sequence[int], log: Path) -> Process:
        import cloudpickle

        with storage_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        ours, theirs = socket.socketpair()
        process = Process(name=name, connection=Wire(ours))
        worker, self._next = self._next, self._next + 1
        self._processes[worker] = process
        wire = theirs.detach()
        self._requests.append(_Request(worker, [wire, output, *descriptors], [wire, output]))
        self._ask()
        orders = {"name": name, "path": list(sys.path), "folder": str(Path.cwd()), "work": cloudpickle.dumps((entry, payload))}
        process.connection.send(pickle.dumps(orders))
        return process

    def kill(self, process: Process) -> None:
        """End a worker now. One that does not run yet is ended as soon as it does."""
        process.details[_MARKED] = True
        for worker, known in self._processes.items():
            if known is process:
                self._kill_marked(worker)

    def _kill_marked(self, worker: int) -> None:
        if worker in self._pidfds:
            try:
                signal.pidfd_send_signal(self._pidfds[worker], signal.SIGKILL)
            except ProcessLookupError:
                return  # it has ended already; poll reports it
        for request in [request for request in self._requests if request.worker == worker]:
            self._requests.remove(request)
            request.close()
            self._processes[worker].exit_status = -signal.SIGKILL

    def close(self) -> None:
        deadline = self.time.now() + _CLOSE_S
        for process in self._processes.values():
            process.details[_MARKED] = True
        for worker in list(self._processes):
            self._kill_marked(worker)
        while self._processes and self.time.now() < deadline:
            for process in self.poll(0.02):
                process.connection.close()
        for descriptor in (self.wake_reader, self._wake_writer):
            os.close(descriptor)
        if self._processes or self._server.is_gone:
            self._server.close()
        else:
            give_back(self._server)

    # ------------------------------------------------------------------------------------------------ what happens

    def poll(self, timeout_s: float) -> list[Process]:
        self.hear()
        if all(process.is_alive for process in self._processes.values()):
            self._wait(timeout_s)
            self.hear()
        ended = [worker for worker, process in self._processes.items() if not process.is_alive]
        return [self._processes.pop(worker) for worker in ended]

    def hear(self) -> None:
        """Take in what the fork server has said, and pass on what it and the workers take, without waiting.

        Raises:
            TrainingError: no server can be brought to start workers.
        """
        while not self._server.is_gone and (received := self._server.receive()) is not None:
            self._take(*received)
        self._watch_server()
        if self._server.is_gone:
            self._bury_all()
            if self._requests:
                self._replace_server()
        self._ask()
        for process in self._processes.values():
            process.connection.flush()

    def messages(self, process: Process) -> list[dict[str, Any]]:
        """What a worker has said since the last call."""
        return [json.loads(message) for message in process.connection.receive()]

    def _wait(self, timeout_s: float) -> None:
        """Until somebody speaks, or takes what waits for it."""
        poller = select.poll()
        poller.register(self.wake_reader, select.POLLIN)
        if not self._server.is_gone:
            poller.register(self._server.socket, select.POLLIN)
        for process in self._processes.values():
            if not process.connection.is_closed:
                poller.register(process.connection, select.POLLIN | (select.POLLOUT if process.connection.has_unsent else 0))
        ready = poller.poll(timeout_s * 1000)
        if any(descriptor == self.wake_reader for descriptor, _ in ready):
            os.read(self.wake_reader, 4096)

    def _ask(self) -> None:
        """Ask the server for the workers that are wanted, as far as it takes it."""
        while self._requests and self._server.is_ready and not self._server.is_gone:
            if not self._server.ask(self._requests[0].worker, self._requests[0].descriptors):
                return
            request = self._requests.popleft()
            self._asked.add(request.worker)
            request.close()

    def _take(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """One message of the server."""
        self._owed_since = None
        if "ready" in message:
            self._server.is_ready = True
        elif "started" in message:
            worker = message["started"]
            self._asked.discard(worker)
            self._servers_in_vain = 0
            self._processes[worker].pid = message["pid"]
            self._pidfds[worker] = descriptors[0]
            if self._processes[worker].details.get(_MARKED):
                self._kill_marked(worker)
        else:
            worker = message["exited"]
            self._asked.discard(worker)
            self._processes[worker].exit_status = message["status"]
            if "why" in message:
                self._processes[worker].details["why"] = message["why"]
            if worker in self._pidfds:
                os.close(self._pidfds.pop(worker))

    # -------------------------------------------------------------------------------------------- a server that fails

    def _watch_server(self) -> None:
        """Kill a server that owes an answer and will not give it: it would keep workers from being started, or from being buried."""
        now = self.time.now()
        if now < self._next_watch:
            return
        self._next_watch = now + _WATCH_S
        if self._server.is_gone or not self._owes():
            self._owed_since = None
            return
        self._owed_since = now if self._owed_since is None else self._owed_since
        owed_s = now - self._owed_since
        if owed_s > (_ANSWER_S if self._server.is_ready else _START_S) or (owed_s > _STOPPED_S and is_stopped(self._server.pid)):
            self._owed_since = None
            self._server.kill()

    def _owes(self) -> bool:
        if self._requests or self._asked:
            return True
        return bool(self._pidfds) and bool(connections.wait(self._pidfds.values(), 0))

    def _bury_all(self) -> None:
        """The server is gone, and the kernel kills its workers: wait until each has really ended."""
        waiting = {request.worker for request in self._requests}
        for worker, process in self._processes.items():
            pidfd = self._pidfds.pop(worker, None)
            if pidfd is not None:
                connections.wait([pidfd], 5.0)
                os.close(pidfd)
            if process.exit_status is None and worker not in waiting:
                process.exit_status = -signal.SIGKILL
        self._asked.clear()

    def _replace_server(self) -> None:
        self._server.close()
        self._servers_in_vain += 1
        if self._servers_in_vain >= _SERVERS_IN_VAIN:
            raise TrainingError(
                f"{_SERVERS_IN_VAIN} processes that should start workers ended or stood still before they had started one; "
                "is there enough memory? What they said is on standard error"
            )
        self._server = ForkServer(self._preload)
