"""What a run is made of before its first batch: the plan of its leases, its model as one vector, the block that holds it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from aimass.core.errors import UsageError
from aimass.models.config import build_module
from aimass.models.custom import check_module
from aimass.models.devices import find_device, find_devices, random_states
from aimass.models.learner import Learner
from aimass.models.precision import choose_precision
from aimass.models.tasks import task_of
from aimass.optim.schedules import rate_of
from aimass.optim.update import build_update
from aimass.parameters.base import Snapshot
from aimass.parameters.blocks import describe_blocks
from aimass.parameters.layout import CELL_WORDS, LEASE_COMMITTED, LEASE_NUMBER, LEASE_OWNER, NOBODY, Layout
from aimass.training.checkpoints.checkpoint import Checkpoint
from aimass.training.events import BlocksOwned, PrecisionChosen, RunStarted
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.rows import TrainingRows
from aimass.training.planes import layout_options, outer_update, plane_of, server_options
from aimass.training.workers.entry import Orders

if TYPE_CHECKING:
    from torch import nn

    from aimass.data.dataset import Dataset
    from aimass.models.tasks import Task
    from aimass.parameters.shared_memory import SharedMemoryServer
    from aimass.training.config import TrainConfig
    from aimass.training.leases.rows import Place
    from aimass.training.slices.cut import Slice

_LEASES_PER_WORKER = 4
_MOST_BATCHES_PER_LEASE = 32
_seeding = threading.RLock()


def seeding() -> AbstractContextManager[Any]:
    """Hold torch's random state, which runs at once in one process share, while a network is made from a seed."""
    return _seeding


def network_shape(data: Dataset) -> tuple[int, tuple[int, ...], int]:
    """What a network of the data takes and gives: numbers, the cardinality of each categorical column, outputs."""
    encoder = data.encoder
    return encoder.num_numbers, encoder.cardinalities, task_of(encoder).num_outputs(encoder.classes)


def open_learner(config: TrainConfig, data: Dataset, task: Task, module: nn.Module | None) -> Learner:
    """The run's module, freshly initialised from its seed, or a copy of the caller's."""
    from copy import deepcopy

    shape = network_shape(data)
    with seeding():
        torch.manual_seed(config.seed)
        if module is None:
            module = build_module(config.model, *shape)
        else:
            module = deepcopy(module)
            check_module(module, *shape, context=data.encoder.context)
        learner = Learner(module, task, device=find_device(config.device), rate_of=config.optimizer.rate_of)
        if config.precision != "auto":
            learner.compute_in(config.precision)
    return learner


def first_state(config: TrainConfig, data: Dataset, module: nn.Module | None) -> Checkpoint:
    """The state from which the run began, made anew: nothing has to keep it."""
    update = outer_update(config) if config.strategy.sends_deltas else build_update(config.optimizer)
    with seeding():
        learner = open_learner(config, data, task_of(data.encoder, config.loss), module)
        random = random_states(learner.device)
    return Checkpoint(
        snapshot=Snapshot(
            parameters=learner.parameters,
            states={name: torch.full_like(learner.parameters, update.initial.get(name, 0.0)) for name in update.states},
        ),
        floats=learner.float_buffers(),
        integers=learner.integer_buffers(),
        random=random,
    )


def describe_start(config: TrainConfig, data: Dataset, learner: Learner, plan: LeasePlan, resumed_at: int | None) -> RunStarted:
    """What is told of a run as it begins, or goes on from a step."""
    return RunStarted(
        data=data.name,
        rows=len(data.train),
        parameters=learner.manifest.num_parameters,
        strategy=config.strategy.name,
        workers=config.workers,
        least_workers=config.least_workers,
        batches_per_epoch=plan.batches_per_epoch,
        total_steps=plan.total_batches,
        epochs=config.stop.num_epochs,
        resumed_at_step=resumed_at,
        devices=find_devices(config.device, config.workers),
        precision=config.precision,
    )


def describe_owners(learner: Learner, server: SharedMemoryServer) -> BlocksOwned | None:
    """Who owns which parameters; None where nobody does."""
    cuts = server.layout.cuts
    return BlocksOwned(blocks=describe_blocks(learner.manifest, cuts)) if cuts else None


def settle_precision(
    config: TrainConfig, learner: Learner, data: Dataset, plan: LeasePlan, kept: str | None
) -> tuple[TrainConfig, PrecisionChosen | None]:
    """Decide what `precision="auto"` means to all workers of a run, and have the learner compute so.

    Args:
        config: the run's settings.
        learner: the driver's, on the device that counts.
        data: whose first batch is measured.
        plan: says which rows that is.
        kept: what was chosen before the run was resumed.

    Returns:
        the settings with the choice in them, and what was measured, where anything was.
    """
    if config.precision != "auto":
        return config, None
    chosen, event = kept or "float32", None
    if kept is None and learner.can_bf16:
        first = torch.from_numpy(plan.rows(0)[: plan.batch_size])
        chosen, times = choose_precision(learner, TrainingRows.of(data.train.encoded).take(first))
        event = PrecisionChosen(precision=chosen, float32_s=times["float32"], bf16_s=times["bf16"])
    learner.compute_in(chosen)
    return config.model_copy(update={"precision": chosen}), event


def plan_leases(config: TrainConfig, num_rows: int, batches_per_lease: int | None = None) -> LeasePlan:
    """How the run's batches are cut into leases.

    Args:
        config: the run's settings.
        num_rows: training rows.
        batches_per_lease: as the run had it before it was resumed, since leases keep their numbers.
    """
    batch_size = config.rows_per_batch(num_rows)
    per_epoch = -(-num_rows // batch_size)
    epochs, max_steps = config.stop.num_epochs, config.stop.max_steps
    ends = [epochs * per_epoch] if epochs is not None else []
    if max_steps is not None:
        ends.append(max_steps)
    exchange, plane = config.strategy.exchange_batches(config.workers), plane_of(config)
    fair = min(_MOST_BATCHES_PER_LEASE, -(-per_epoch // (_LEASES_PER_WORKER * max(1, config.workers))))
    fair = exchange if plane.in_groups else -(-fair // exchange) * exchange
    tasks = config.strategy.task_batches(num_rows, batch_size, max(1, config.workers))
    return LeasePlan(
        num_rows=num_rows,
        batch_size=batch_size,
        batches_per_lease=(tasks or exchange) if plane.closes_leases else batches_per_lease or tasks or config.lease.batches or fair,
        seed=config.seed,
        total_batches=min(ends, default=None),
    )


def fit_leases(snapshot: Snapshot, plan: LeasePlan, state: Mapping[str, Any], *, in_rounds: bool) -> None:
    """Make a snapshot's leases those of the plan by which the run goes on.

    Args:
        snapshot: what was kept; changed in place.
        plan: by which the run goes on.
        state: what the trainer kept with it: `batches_per_lease` and `total_batches` of the plan before.
        in_rounds: whether it goes on in rounds, which know no lease that is half done.

    Raises:
        UsageError: the run has gone further than it now shall, or is at a step at which it cannot go on so.
    """
    before = replace(plan, total_batches=state["total_batches"], batches_per_lease=state["batches_per_lease"])
    numbers = {cell[LEASE_NUMBER] for cell in snapshot.open_cells}
    upcoming = snapshot.next_lease
    while upcoming in numbers:
        upcoming += 1
    unfinished = [(cell[LEASE_NUMBER], cell[LEASE_COMMITTED]) for cell in snapshot.open_cells]
    unfinished = [(number, committed) for number, committed in unfinished if committed < before.num_batches(number)]
    missing = sum(before.num_batches(number) - committed for number, committed in unfinished)
    done, wanted = before.first_batch(upcoming) - missing, plan.total_batches
    if wanted is not None and wanted < done:
        raise UsageError(f"{done} steps are done already, and {wanted} are wanted; give more epochs or a larger max_steps")
    if not in_rounds:
        _reopen_last_lease(snapshot, plan, state["total_batches"])
        return
    epochs, batches = divmod(done, plan.batches_per_epoch)
    has_gaps = any(before.first_batch(number) + committed < done for number, committed in unfinished)
    if has_gaps or batches % plan.batches_per_lease:
        raise UsageError(
            f"step {done}, at which this run stopped, is inside what a worker does between two exchanges, and rounds go on from between "
            "them; go on with the strategy and the workers that the run had, or with a strategy that is not in rounds, such as 'async_sgd'"
        )
    snapshot.cells, snapshot.next_lease = [], epochs * plan.leases_per_epoch + batches // plan.batches_per_lease


def _reopen_last_lease(snapshot: Snapshot, plan: LeasePlan, total_before: int | None) -> None:
    """Where a run that ended goes on for longer, its last lease may have been cut short: put the rest of it among the open ones."""
    before = replace(plan, total_batches=total_before)
    last = before.num_leases - 1
    is_open = any(cell[LEASE_NUMBER] == last for cell in snapshot.cells)
    if total_before is None or is_open or snapshot.next_lease <= last or before.num_batches(last) >= plan.num_batches(last):
        return
    cell = [0] * CELL_WORDS
    cell[LEASE_NUMBER], cell[LEASE_OWNER], cell[LEASE_COMMITTED] = last, NOBODY, before.num_batches(last)
    snapshot.cells.append(cell)


def open_server(
    config: TrainConfig,
    learner: Learner,
    total_steps: int | None,
    num_open_leases: int = 0,
    num_tasks: int = 0,
    slices: Sequence[Slice] | None = None,
) -> SharedMemoryServer:
    """The block, holding the learner's parameters. With `workers=0` the learner is bound to it, and nothing is ever copied, unless
    the learner is to move a p of its own.

    Args:
        config: the run's settings.
        learner: the driver's.
        total_steps: batches of the whole run, where that is known.
        num_open_leases: leases of a checkpoint that are not finished, perhaps by more workers than there are now.
        num_tasks: leases of an epoch, where it is to be told who took them.
        slices: what each worker has, where p is divided.

    Raises:
        StorageError: it does not fit into memory.
        UsageError: it cannot be cut as asked for.
    """
    manifest, num_slots = learner.manifest, max(1, config.workers)
    update = outer_update(config) if config.strategy.sends_deltas else build_update(config.optimizer)
    plan: dict[str, Any] = {
        "num_parameters": manifest.num_parameters,
        "groups": tuple((group.start, group.stop) for group in manifest.groups),
        "rates": tuple(group.rate for group in manifest.groups) if config.optimizer.rates else (),
        "num_slots": num_slots,
        "num_cells": 2 * num_slots + 2 + num_open_leases,
        "num_buffers": len(learner.float_buffers()),
        "num_tasks": num_tasks,
    }
    layout = Layout(**{**plan, **layout_options(config, update, manifest, slices)})
    rate = rate_of(config.optimizer.learning_rate, config.schedule, total_steps)
    options = server_options(config, [group.name for group in manifest.groups], None if config.workers else 0)
    server = plane_of(config).server.create(layout, update, rate, **options)
    if config.workers or config.strategy.sends_deltas:
        server.p.copy_(learner.parameters)
    else:
        learner.bind(server.p, server.gradient)
    return server


def write_orders(
    config: TrainConfig,
    data: Dataset,
    learner: Learner,
    layout: Layout,
    plan: LeasePlan,
    places: list[Place],
    module: nn.Module | None,
    slices: list[Slice] | None = None,
) -> Orders:
    """What every worker of the run needs to know."""
    encoder = data.encoder
    if slices is not None:
        from aimass.training.slices.learner import without_values

        module = without_values(learner.module)
    return Orders(
        config=config,
        task=data.task,
        num_numbers=encoder.num_numbers,
        cardinalities=encoder.cardinalities,
        num_outputs=learner.task.num_outputs(encoder.classes),
        module=module,
        layout=layout,
        plan=plan,
        places=places,
        slot=0,
        buffers=learner.float_buffers() if layout.num_buffers else None,
        integers=learner.integer_buffers(),
        division=None if slices is None else (learner.manifest, slices),
    )
