"""How the processes of a run share parameters and batches. Each plane is a server and a table of leases behind the same interfaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from aimass.core.errors import UsageError
from aimass.models.devices import find_devices
from aimass.optim.bounds import Bounds
from aimass.optim.outer import Outer
from aimass.optim.update import Add, build_update
from aimass.parameters.averages import MEAN, AverageServer
from aimass.parameters.blocks import BlockServer, cut_into_blocks
from aimass.parameters.compensation import Compensation, build_compensation
from aimass.parameters.groups import GroupServer
from aimass.parameters.handing import HandingServer
from aimass.parameters.pace import Pace
from aimass.parameters.replicas import NUM_EXTRAS, ReplicaServer
from aimass.parameters.rounds import RoundServer
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.parameters.slices import SliceServer
from aimass.training.leases.averages import AverageTable
from aimass.training.leases.balanced import BalancedTable
from aimass.training.leases.groups import GroupTable
from aimass.training.leases.replicas import ReplicaTable
from aimass.training.leases.rounds import RoundTable
from aimass.training.leases.slices import SliceTable
from aimass.training.leases.table import LeaseTable
from aimass.training.replicas.addresses import NOTE_BYTES

if TYPE_CHECKING:
    from aimass.models.manifest import Manifest
    from aimass.optim.config import OptimizerConfig
    from aimass.optim.update import Update
    from aimass.training.config import TrainConfig
    from aimass.training.slices.cut import Slice


@dataclass(frozen=True, kw_only=True)
class Plane:
    """What a strategy works on.

    Args:
        server: holds the parameters, and takes what workers push.
        leases: says who trains on what.
        shares_p: whether workers compute on the server's own p, because nobody changes it meanwhile; otherwise each has a copy.
        in_rounds: whether all exchange at once. A lease is then what one worker does between two exchanges; whoever does it draws the
            same random numbers.
        replicates: whether each worker has p and the states to itself.
        in_groups: whether workers form groups, each of which exchanges as one. A lease is then what a group does between two exchanges.
        carries: whether what comes too late for one exchange goes into a later one.
        has_owners: whether each part of p has a worker that alone changes it.
        divides: whether each worker has a part of p and the states, and nobody the whole: `"layers"` or `"tensors"`, or nothing.
    """

    server: type[SharedMemoryServer]
    leases: Callable[..., LeaseTable]
    shares_p: bool = False
    in_rounds: bool = False
    replicates: bool = False
    divides: str = ""
    in_groups: bool = False
    carries: bool = False
    has_owners: bool = False

    @property
    def closes_leases(self) -> bool:
        """Whether no lease is half done, or in anybody's hand, between two exchanges."""
        return self.in_rounds and not self.carries

    @property
    def has_slots_late(self) -> bool:
        """Whether a worker may not write to its slot before it has something to do there."""
        return self.in_rounds or self.in_groups

    @property
    def waits_at_epochs(self) -> bool:
        """Whether all wait at an epoch's end until p is copied, so that what is evaluated does not depend on chance."""
        return self.in_rounds or self.replicates or bool(self.divides)


def plane_of(config: TrainConfig) -> Plane:
    """The plane that a run's strategy works on."""
    match config.strategy.plane:
        case "arrival":
            server = HandingServer if getattr(config.strategy, "wait", False) else SharedMemoryServer
            return Plane(server=server, leases=LeaseTable)
        case "rounds":
            return Plane(server=RoundServer, leases=RoundTable, shares_p=True, in_rounds=True)
        case "balanced":
            balanced = partial(BalancedTable, smoothing=getattr(config.strategy, "smoothing", 1.0))
            return Plane(server=RoundServer, leases=balanced, shares_p=True, in_rounds=True)
        case "averages":
            quorum, grace_s = getattr(config.strategy, "quorum_of", lambda workers: workers), getattr(config.strategy, "grace", None)
            averages = partial(AverageTable, quorum=quorum, grace_s=grace_s)
            return Plane(server=AverageServer, leases=averages, in_rounds=True, carries=True)
        case "replicas":
            leases = partial(ReplicaTable, accumulate=getattr(config.strategy, "accumulate", 1))
            return Plane(server=ReplicaServer, leases=leases, shares_p=True, replicates=True)
        case "groups":
            groups = partial(GroupTable, by_speed=getattr(config.strategy, "grouping", "slots") == "speed")
            return Plane(server=GroupServer, leases=groups, in_groups=True)
        case "blocks":
            return Plane(server=BlockServer, leases=LeaseTable, has_owners=True)
        case "layers" | "tensors" as divides:
            table = partial(SliceTable, shares_batches=divides == "layers")
            return Plane(server=SliceServer, leases=table, shares_p=True, divides=divides)
    known = "arrival, rounds, balanced, averages, replicas, groups, blocks, layers, tensors"
    raise UsageError(f"the strategy {config.strategy.name!r} asks for the plane {config.strategy.plane!r}; there are: {known}")


def outer_update(config: TrainConfig) -> Update:
    """What a server does with the changes of workers that take the optimizer's steps by themselves."""
    outer = _outer_of(config)
    return Add() if outer is None else Outer(build_update(outer), outer.learning_rate)


def _outer_of(config: TrainConfig) -> OptimizerConfig | None:
    """The optimizer that takes workers' changes for its gradient."""
    outer: OptimizerConfig | None = getattr(config.strategy, "outer_optimizer", None)
    return outer


def server_options(config: TrainConfig, groups: list[str], slot: int | None) -> dict[str, Any]:
    """What a server is made with beside its memory, its layout, its update and its rate.

    Args:
        config: the run's settings.
        groups: the names of the manifest's parameter groups.
        slot: whose handle it is; None for the driver of workers.
    """
    optimizer = _outer_of(config) or config.optimizer
    options: dict[str, Any] = {
        "weight_decay": [optimizer.weight_decay_of(group) for group in groups],
        "slot": slot,
        "atomic": config.workers > 0 and bool(getattr(config.strategy, "atomic", True)),
    }
    if plane_of(config).in_rounds:
        options |= {"clip": config.clip if not config.strategy.sends_deltas else None, "sums": config.strategy.sums_parts}
    if getattr(config.strategy, "scale_steps", False):
        options["scale_steps"] = True
    if compensation := _compensation_of(config):
        options["compensation"] = compensation
    if plane_of(config).replicates:
        options["backend"] = _backend(config)
    if plane_of(config).in_groups and not config.strategy.sends_deltas:
        options["batches_per_push"] = config.strategy.exchange_batches(config.workers)
    if plane_of(config).has_owners:
        options |= _owner_options(config, groups)
    return options


def layout_options(config: TrainConfig, update: Update, manifest: Manifest, slices: Sequence[Slice] | None = None) -> dict[str, Any]:
    """How a run's settings shape its block: the state vectors, how p is cut, and how often it is there.

    Args:
        config: the run's settings.
        update: the optimizer's.
        manifest: of p.
        slices: what each worker has, where p is divided.

    Raises:
        UsageError: there are more servers than parameters, or more owners of them.
    """
    num_parameters = manifest.num_parameters
    servers = getattr(config.strategy, "servers", None) or 0
    if servers > num_parameters:
        raise UsageError(f"strategy.servers={servers}: the model has {num_parameters} parameters; give at most so many servers")
    compensation = _compensation_of(config)
    options = {
        "states": (*update.states, *(compensation.states if compensation else ())),
        "num_servers": servers,
        "keeps_pulled": compensation is not None,
    }
    if plane_of(config).replicates:
        options |= {"num_replicas": max(1, config.workers), "num_extras": NUM_EXTRAS, "note_bytes": NOTE_BYTES if config.workers > 1 else 0}
    if plane_of(config).in_groups:
        num_groups = config.strategy.num_groups(config.workers)
        options |= {"num_groups": num_groups, "num_slots": config.workers + num_groups}
        options["num_own_states"] = len(build_update(config.optimizer).states) if config.strategy.sends_deltas else 0
    if getattr(config.strategy, "averages_states", False):
        own = build_update(config.optimizer).states
        options |= {"num_own_states": len(own), "states": (*update.states, *(f"{MEAN}{name}" for name in own))}
    if plane_of(config).has_owners:
        if config.workers > num_parameters:
            raise UsageError(
                f"workers={config.workers}: each owns parameters, and the model has {num_parameters}; give at most so many workers"
            )
        options["cuts"] = cut_into_blocks(manifest, max(1, config.workers))
    if slices is not None:
        options |= {"spans": tuple(one.spans for one in slices), "note_bytes": NOTE_BYTES}
    return options


def check_devices(config: TrainConfig) -> None:
    """See whether the machine has the devices that the settings ask for.

    Raises:
        UsageError: it has not.
    """
    find_devices(config.device, config.workers)
    _backend(config)


def pace_of(config: TrainConfig, server: SharedMemoryServer, slot: int) -> Pace | None:
    """What holds a worker back that runs too far ahead of the others; None where nothing does."""
    bound = getattr(config.strategy, "staleness", None)
    if bound is None or config.strategy.plane != "arrival" or server.layout.num_slots == 1:
        return None
    return Pace(server, slot, bound)


def _compensation_of(config: TrainConfig) -> Compensation | None:
    """A single worker's gradients are never stale, and need none."""
    if config.workers < 2:
        return None
    return build_compensation(getattr(config.strategy, "compensation", None), getattr(config.strategy, "compensation_strength", None))


def _owner_options(config: TrainConfig, groups: list[str]) -> dict[str, Any]:
    """How others' blocks are mixed in, and what is asked of the weights."""
    strategy, optimizer = config.strategy, config.optimizer
    bounds = Bounds(
        strength=getattr(strategy, "regularization_strength", 0.0),
        kind=getattr(strategy, "regularization", "l2"),
        shrinkage=getattr(strategy, "shrinkage", 0.0),
        range=getattr(strategy, "clip_weights", None),
        weight_decay=optimizer.weight_decay,
    )
    options: dict[str, Any] = {"mix": getattr(strategy, "mix", 1.0)}
    if bounds.strength or bounds.shrinkage or bounds.range:
        decays = [group == "decay" or optimizer.decay_bias for group in groups]
        options |= {"bounds": bounds, "weight_decay": [float(one) for one in decays]}
    return options


def _backend(config: TrainConfig) -> str:
    """What carries gradients between replicas. NCCL needs a GPU for each worker.

    Raises:
        UsageError: it was asked for, and they have none.
    """
    wanted = str(getattr(config.strategy, "backend", "gloo"))
    if wanted == "gloo" or config.workers < 2:
        return "gloo"
    devices = find_devices(config.device, config.workers)
    has_gpus = len(devices) == config.workers and all(name.startswith("cuda") for name in devices)
    if wanted == "nccl" and not has_gpus:
        raise UsageError(
            f"strategy.backend='nccl' needs a GPU for each of the {config.workers} workers, and they compute on {', '.join(devices)}; "
            "leave it out, or set device='cuda' where there are enough"
        )
    return "nccl" if has_gpus and torch.distributed.is_nccl_available() else "gloo"
