"""Ways for a gradient to reach the parameters and for the parameters to come back. Each applies the same update.

A step is: push the gradient, apply it, have the new parameters in this process's own vector. The peers do it in one round
trip, which is the best that they can do. Their server applies the update in place in its own process.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import die_with_parent, timed
from torch import Tensor

from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update

RATE = 1e-6
TRIAD_LENGTH = 10_000_000


class DataPath(ABC):
    """One worker's way to p."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.taken = 0

    @abstractmethod
    def prepare(self, length: int, optimizer: str) -> None:
        """Start over with parameters of another length."""

    @abstractmethod
    def step(self) -> None:
        """Push, apply, pull."""

    def measure(self, times: int) -> float:
        """Seconds a step, over some."""
        self.taken += times
        return timed(self.step, times)

    def verify(self) -> None:
        """Take a last step, and see that each one since `prepare` was applied once.

        A gradient of ones moves every parameter by −RATE, with SGD and with Adam.

        Raises:
            ValueError: it was not.
        """
        self.measure(1)
        found, expected = float(self.out[-1]), -RATE * self.taken
        if not abs(found - expected) < 0.01 * abs(expected):
            raise ValueError(f"after {self.taken} steps the last parameter is {found}, not {expected}")

    def release(self) -> None:
        """Give the memory back."""
        self.prepare(1, "sgd")

    def close(self) -> None:
        """Leave."""
        self.release()

    def _make_vectors(self, length: int) -> None:
        self.gradient, self.out, self.taken = torch.ones(length), torch.zeros(length), 0


class Applied:
    """Parameters and optimizer state in one process: what a peer's server holds."""

    def __init__(self, length: int, optimizer: str) -> None:
        self.update = build_update(OptimizerConfig(name=optimizer))
        self.p = torch.zeros(length)
        self.states = [torch.zeros(length) for _ in self.update.states]
        self.taken = 0

    def apply(self, gradient: Tensor) -> Tensor:
        """Take a step on all of p, and return p itself. Both of shape (length,)."""
        self.taken += 1
        self.update.apply(self.p, gradient, self.states, self.taken, RATE, 0.0)
        return self.p


class SharedMemory(DataPath):
    """Ours: the worker applies its gradient in place, in memory that all workers share."""

    atomic = True

    def prepare(self, length: int, optimizer: str) -> None:
        from aimass.parameters.layout import Layout
        from aimass.parameters.shared_memory import SharedMemoryServer

        update = build_update(OptimizerConfig(name=optimizer))
        layout = Layout(num_parameters=length, groups=((0, length),), states=tuple(update.states), num_slots=2)
        self.server = SharedMemoryServer.create(layout, update, lambda step: RATE, slot=0, atomic=self.atomic)
        self.gradient, self.out, self.clock, self.taken = self.server.gradient.fill_(1.0), torch.zeros(length), 0, 0

    def step(self) -> None:
        self.server.push(self.gradient, self.clock)
        self.clock = self.server.pull(self.out)


class SharedMemoryNotAtomic(SharedMemory):
    """Ours without the copy that makes an interrupted push whole."""

    atomic = False


class RayActor(DataPath):
    """An actor that holds p; gradients and parameters go through Ray's object store, which copies with several threads."""

    def __init__(self) -> None:
        super().__init__()
        here = str(Path(__file__).resolve().parent)
        os.environ.update(PYTHONPATH=here, RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_USAGE_STATS_ENABLED="0")
        import ray

        self.ray = ray
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error", object_store_memory=4 << 30)
        self.actor = ray.remote(num_cpus=1)(_Actor).remote()

    def prepare(self, length: int, optimizer: str) -> None:
        self._make_vectors(length)
        self.ray.get(self.actor.prepare.remote(length, optimizer))

    def step(self) -> None:
        np.copyto(self.out.numpy(), self.ray.get(self.actor.step.remote(self.gradient.numpy())))

    def close(self) -> None:
        self.ray.shutdown()


class _Actor:
    def prepare(self, length: int, optimizer: str) -> None:
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # it is only read
        self.applied = Applied(length, optimizer)

    def step(self, gradient: np.ndarray) -> np.ndarray:
        return self.applied.apply(torch.from_numpy(gradient)).numpy()


class TorchRpc(DataPath):
    """`torch.distributed.rpc` over TensorPipe, with the transports that it chooses."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="bench-rpc-")
        file = f"{self._folder.name}/meeting"
        self._server = multiprocessing.get_context("spawn").Process(target=_join_rpc, args=("server", 1, file), daemon=True)
        self._server.start()
        self.rpc = _start_rpc("worker", 0, file)

    def prepare(self, length: int, optimizer: str) -> None:
        self._make_vectors(length)
        self.rpc.rpc_sync("server", _rpc_prepare, args=(length, optimizer))

    def step(self) -> None:
        self.out.copy_(self.rpc.rpc_sync("server", _rpc_step, args=(self.gradient,)))

    def close(self) -> None:
        self.rpc.shutdown()


_rpc_applied: Applied | None = None


def _rpc_prepare(length: int, optimizer: str) -> None:
    global _rpc_applied
    _rpc_applied = Applied(length, optimizer)


def _rpc_step(gradient: Tensor) -> Tensor:
    assert _rpc_applied is not None, "prepare comes first"
    return _rpc_applied.apply(gradient)


def _start_rpc(name: str, rank: int, file: str) -> Any:
    warnings.filterwarnings("ignore", category=UserWarning)
    from torch.distributed import rpc

    options = rpc.TensorPipeRpcBackendOptions(num_worker_threads=1, init_method=f"file://{file}")
    rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)
    return rpc


def _join_rpc(name: str, rank: int, file: str) -> None:
    die_with_parent()
    torch.set_num_threads(1)
    _start_rpc(name, rank, file).shutdown()


class ZeroMQ(DataPath):
    """pyzmq over a Unix socket, with frames that are sent and received without a copy in Python."""

    def __init__(self) -> None:
        super().__init__()
        import zmq

        self._folder = tempfile.TemporaryDirectory(prefix="bench-zmq-")
        address = f"ipc://{self._folder.name}/socket"
        self._server = multiprocessing.get_context("spawn").Process(target=_serve_zmq, args=(address,), daemon=True)
        self._server.start()
        self.socket = zmq.Context.instance().socket(zmq.PAIR)
        self.socket.connect(address)

    def prepare(self, length: int, optimizer: str) -> None:
        self._make_vectors(length)
        self.socket.send_pyobj((length, optimizer))
        self.socket.recv()

    def step(self) -> None:
        self.socket.send(b"", 2)  # SNDMORE: tells a step from an order
        self.socket.send(self.gradient.numpy(), copy=False)
        frame = self.socket.recv(copy=False)
        np.copyto(self.out.numpy(), np.frombuffer(frame.buffer, dtype=np.float32))

    def close(self) -> None:
        self.socket.send_pyobj(None)
        self.socket.recv()


def _serve_zmq(address: str) -> None:
    import zmq

    die_with_parent()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="The given buffer is not writable")  # it is only read
    socket = zmq.Context.instance().socket(zmq.PAIR)
    socket.bind(address)
    applied = Applied(1, "sgd")
    while True:
        frames = socket.recv_multipart(copy=False)
        if len(frames) == 2:
            p = applied.apply(torch.frombuffer(frames[1].buffer, dtype=torch.float32))
            socket.send(p.numpy(), copy=False)  # p stays as it is until the worker has it and sends its next gradient
            continue
        order = pickle.loads(frames[0].buffer)
        socket.send(b"ready")
        if order is None:
            return
        applied = Applied(*order)


class Triad:
    """a ← b + s·c on vectors that no cache holds: the bandwidth that the memory gives one thread."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.a, self.b, self.c = (torch.ones(TRIAD_LENGTH) for _ in range(3))

    def measure(self) -> float:
        """Bytes per second: two vectors are read and one is written."""
        return 12 * TRIAD_LENGTH / timed(lambda: torch.add(self.b, self.c, alpha=0.5, out=self.a), 5)

    def close(self) -> None:
        """Leave."""
