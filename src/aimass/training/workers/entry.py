"""A worker process: what it is told, what it builds from that, and how it tells that it is done."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from aimass.core.memory import SharedMemory
from aimass.models.config import build_module
from aimass.models.devices import find_device
from aimass.models.learner import Learner
from aimass.models.tasks import build_task
from aimass.optim.schedules import rate_of
from aimass.optim.update import build_update
from aimass.parameters.slices import SliceServer
from aimass.training.leases.rows import Place, TrainingRows
from aimass.training.planes import Plane, outer_update, pace_of, plane_of, server_options
from aimass.training.strategy import build_strategy
from aimass.training.workers.worker import Worker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from torch import Tensor, nn

    from aimass.cluster.base import Context
    from aimass.models.manifest import Manifest
    from aimass.parameters.layout import Layout
    from aimass.parameters.shared_memory import SharedMemoryServer
    from aimass.training.config import TrainConfig
    from aimass.training.leases.plan import LeasePlan
    from aimass.training.slices.cut import Slice
    from aimass.training.workers.shaping import Shape

_LARGEST_MESSAGE_BYTES = 1 << 15


@dataclass(kw_only=True)
class Orders:
    """Everything that a worker process needs to know. It comes over the inherited pipe."""

    config: TrainConfig
    task: str
    num_numbers: int
    cardinalities: tuple[int, ...]
    num_outputs: int
    module: nn.Module | None
    layout: Layout
    plan: LeasePlan
    places: list[Place]
    slot: int
    buffers: Tensor | None = None
    integers: dict[str, Tensor] = field(default_factory=dict)
    shape: Shape | None = None
    division: tuple[Manifest, list[Slice]] | None = None


def main(context: Context) -> None:
    """What a worker process runs."""
    orders: Orders = context.payload
    config = orders.config
    torch.manual_seed(config.seed * 1_000_003 + orders.slot + 1)
    plane = plane_of(config)
    learner, server = _divided(orders, context.descriptors[0]) if plane.divides else _whole(orders, plane, context.descriptors[0])
    if orders.buffers is not None:
        learner.set_float_buffers(orders.buffers)
    if orders.integers:
        learner.set_integer_buffers(orders.integers)
    kind = Worker if orders.shape is None else orders.shape.worker(orders.slot)
    worker = kind(
        learner=learner,
        server=server,
        leases=plane.leases(server, orders.plan, config.lease.timeout),
        rows=TrainingRows.attach(context.descriptors[1], orders.places),
        clip=config.clip,
        slot=orders.slot,
        optimizer=config.optimizer,
    )
    worker.seed = config.seed if plane.in_rounds else None
    worker.binds = plane.has_slots_late and not config.strategy.sends_deltas
    worker.pace = pace_of(config, server, orders.slot)
    worker.when_leased = lambda: _tell(context.connection, learner)
    build_strategy(config.strategy).work(worker)
    if worker.pace is not None:
        worker.pace.rest()


def _attach(orders: Orders, manifest: Manifest, descriptor: int) -> SharedMemoryServer:
    """A worker's handle on the parameter server. Where p is divided, it has no more of the block at hand than it touches."""
    config = orders.config
    rate = rate_of(config.optimizer.learning_rate, config.schedule, orders.plan.total_batches)
    options = server_options(config, [group.name for group in manifest.groups], orders.slot)
    update = outer_update(config) if config.strategy.sends_deltas else build_update(config.optimizer)
    memory = SharedMemory.attach(descriptor, populate=orders.division is None)
    return plane_of(config).server(memory, orders.layout, update, rate, **options)


def _parameters_for(plane: Plane, server: SharedMemoryServer, learner: Learner) -> Tensor:
    """Where a worker computes: on p itself, where nobody else changes it meanwhile; on what others shall see; or on a copy."""
    if plane.shares_p or server.layout.num_slots == 1:
        return server.p
    if server.pulled is not None:
        return server.pulled
    return learner.parameters


def _whole(orders: Orders, plane: Plane, descriptor: int) -> tuple[Learner, SharedMemoryServer]:
    """The whole model, bound to the server's vectors."""
    config = orders.config
    module = orders.module or build_module(config.model, orders.num_numbers, orders.cardinalities, orders.num_outputs)
    device = find_device(config.device, orders.slot)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    task = build_task(orders.task, loss=config.loss)
    learner = Learner(module, task, device=device, precision=config.precision, rate_of=config.optimizer.rate_of)
    server = _attach(orders, learner.manifest, descriptor)
    if not config.strategy.sends_deltas:
        gradient = learner.gradient_vector if plane.has_slots_late else server.gradient
        learner.bind(_parameters_for(plane, server, learner), gradient, copy_module=False)
    return learner, server


def _divided(orders: Orders, descriptor: int) -> tuple[Learner, SharedMemoryServer]:
    """The model without values, for a worker that takes its part of them."""
    from aimass.training.slices.learner import SlicedLearner

    assert orders.module is not None, "the driver has cut the model"
    assert orders.division is not None, "the driver has cut the model"
    manifest, slices = orders.division
    server = _attach(orders, manifest, descriptor)
    assert isinstance(server, SliceServer), "the plane divides p"
    task = build_task(orders.task, loss=orders.config.loss)
    return SlicedLearner(orders.module, task, manifest, slices, server, orders.config.precision), server


def _tell(connection: Connection, learner: Learner) -> None:
    """Wake the driver: a lease is done. Counters that are no averages go along."""
    integers = {name: values.tolist() for name, values in learner.integer_buffers().items()}
    message = json.dumps({"leased": True, **({"integers": integers} if integers else {})}).encode()
    if len(message) > _LARGEST_MESSAGE_BYTES:  # more than the pipe takes at once could keep the driver waiting for the rest
        message = b'{"leased": true}'
    connection.send_bytes(message)
