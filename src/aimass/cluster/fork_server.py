"""A process with torch imported that forks workers: a worker then runs in hundredths of a second.

It runs one thread, no tensor operation and no CUDA, so a fork of it is safe. It never imports the user's `__main__`.

    driver ──SEQPACKET──▶ fork server:  b"{id}" with descriptors [connection, log, ...]
    driver ◀──────────── fork server:   {"ready"}, {"started", pid} with its pidfd, {"exited", status}; {"exited", status, why} alone
                                        where the system starts no process

When the driver ends, however it ends, its end of the socket closes, the fork server leaves, and the kernel kills the workers
with it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import pickle
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from aimass.cluster.base import Context
from aimass.core.full_memory import describe_memory, is_out_of_memory
from aimass.core.leaving import leave_now

MAX_DESCRIPTORS = 64
_PR_SET_PDEATHSIG = 1
_FAILED = 70


def main(descriptor: int, preload: Sequence[str]) -> None:
    """Serve until the driver's end of the socket closes. `preload` names the modules that every worker will need."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    _preload(preload)
    driver = socket.socket(fileno=descriptor)
    driver_pid = os.getppid()
    selector = selectors.DefaultSelector()
    selector.register(driver, selectors.EVENT_READ)
    workers: dict[int, tuple[int, int]] = {}  # pidfd -> (id, pid)
    try:
        _serve(libc, driver, driver_pid, selector, workers)
    finally:
        for pidfd in workers:  # one that was stopped before it could ask the kernel for this would stay for ever
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _serve(
    libc: ctypes.CDLL, driver: socket.socket, driver_pid: int, selector: selectors.BaseSelector, workers: dict[int, tuple[int, int]]
) -> None:
    """Fork, and tell of ends, until the driver is gone."""
    _send(driver, {"ready": os.getpid()})
    while os.getppid() == driver_pid:
        for key, _ in selector.select(timeout=1.0):
            if key.fileobj is driver:
                try:
                    message, descriptors, _, _ = socket.recv_fds(driver, 1024, MAX_DESCRIPTORS)
                except ConnectionResetError:  # the driver left without reading all that was said
                    return
                if not message:
                    return
                try:
                    pidfd, pid = _fork(libc, driver, selector, descriptors)
                except OSError as error:  # no memory, or as many processes as there may be
                    _send(driver, {"exited": int(message), "status": os.EX_OSERR, "why": error.strerror})
                    continue
                workers[pidfd] = (int(message), pid)
                selector.register(pidfd, selectors.EVENT_READ)
                _send(driver, {"started": int(message), "pid": pid}, pidfd)
            else:
                pidfd = key.fd
                selector.unregister(pidfd)
                worker, pid = workers.pop(pidfd)
                _, status = os.waitpid(pid, 0)
                os.close(pidfd)
                _send(driver, {"exited": worker, "status": os.waitstatus_to_exitcode(status)})


def _preload(modules: Sequence[str]) -> None:
    """Import what every worker needs, and leave nothing for the garbage collector to touch in the copies."""
    gc.disable()  # what is imported stays
    for module in modules:
        import_module(module)
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    gc.enable()


def _send(driver: socket.socket, message: dict[str, Any], *descriptors: int) -> None:
    try:
        socket.send_fds(driver, [json.dumps(message).encode()], descriptors)
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the driver is gone


def _fork(libc: ctypes.CDLL, driver: socket.socket, selector: selectors.BaseSelector, descriptors: list[int]) -> tuple[int, int]:
    server = os.getpid()
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid:
            for descriptor in descriptors:
                os.close(descriptor)
    if pid:
        return os.pidfd_open(pid), pid
    status = _FAILED
    try:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == server:
            driver.close()
            selector.close()
            status = _run(descriptors)
    finally:
        os._exit(status)


def _run(descriptors: list[int]) -> int:
    """What a worker process does: take its orders from the pipe, carry them out, say how it failed."""
    wire, log, *rest = descriptors
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    connection = Connection(wire)
    try:
        orders = pickle.loads(connection.recv_bytes())  # noqa: S301 - written by our own driver, over the pipe we inherited
        sys.path[:] = orders["path"]
        os.chdir(orders["folder"])
        entry, payload = pickle.loads(orders["work"])  # noqa: S301
        entry(Context(name=orders["name"], connection=connection, descriptors=rest, payload=payload))
    except Exception as error:  # noqa: BLE001 - whatever it is, the driver is told and the log has the trace
        if isinstance(error, (EOFError, BrokenPipeError, ConnectionResetError)) and connection.poll():
            return 0  # nothing follows the orders, so this is the end: the driver is gone, or wants nothing any more
        traceback.print_exc()
        sys.stderr.flush()
        told: dict[str, Any] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        if is_out_of_memory(error):
            told["out_of_memory"] = describe_memory()
        connection.send_bytes(json.dumps(told).encode())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    with suppress(SystemExit):
        main(int(sys.argv[1]), sys.argv[2:])
    leave_now(0)  # the driver waits for it
