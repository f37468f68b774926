"""Who has what: blocks of the parameters, slices of the model, groups of workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aimass.core.events import Event


@dataclass(frozen=True, kw_only=True)
class BlocksOwned(Event):
    """Who owns which parameters: of each part of a tensor its `name`, its `start` inside the tensor, its `size`, and the `owner`."""

    kind = "blocks_owned"
    blocks: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ModelSliced(Event):
    """A model is divided among workers. For each: `worker`, the `pieces` that it has where it has whole layers, `parameters`, the `bytes`
    that these, their gradients and the optimizer's states take, and `flops_per_row` of a forward pass where they were counted."""

    kind = "model_sliced"
    strategy: str
    slices: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class GroupsFormed(Event):
    """Workers go to groups of like speed. `unlike` says how many times as fast the fastest of a group is as its slowest, on average, and
    `before` how many times it was; of each group there are the workers, and the rows a second of each."""

    kind = "groups_formed"
    groups: list[dict[str, Any]]
    moved: list[int]
    unlike: float
    before: float


@dataclass(frozen=True, kw_only=True)
class GroupsSeen(Event):
    """The table of each group at an epoch's end: its supernode, and of each member process, rows, rows a second, and state."""

    kind = "groups"
    epoch: int
    groups: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SupernodeReplaced(Event):
    """Another worker leads a group from now on, in place of worker `before`. `times` counts the replacements since the last such event."""

    kind = "supernode_replaced"
    group: int
    worker: int
    pid: int
    before: int
    times: int = 1
