"""How the processes of a run share parameters and batches. Each plane is a server and a table of leases behind the same interfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aimass.core.errors import UsageError
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.training.leases import LeaseTable

if TYPE_CHECKING:
    from aimass.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Plane:
    """What a strategy works on.

    Args:
        server: holds the parameters, and takes what workers push.
        leases: says who trains on what.
        shares_p: whether workers compute on the server's own p, because nobody changes it meanwhile; otherwise each has a copy.
    """

    server: type[SharedMemoryServer]
    leases: type[LeaseTable]
    shares_p: bool = False


def plane_of(config: TrainConfig) -> Plane:
    """The plane that a run's strategy works on."""
    match config.strategy.plane:
        case "arrival":
            return Plane(server=SharedMemoryServer, leases=LeaseTable)
    raise UsageError(f"the strategy {config.strategy.name!r} asks for the plane {config.strategy.plane!r}; there are: arrival")


def server_options(config: TrainConfig, groups: list[str], slot: int | None) -> dict[str, Any]:
    """What a server is made with beside its memory, its layout, its update and its rate.

    Args:
        config: the run's settings.
        groups: the names of the manifest's parameter groups.
        slot: whose handle it is; None for the driver of workers.
    """
    return {
        "weight_decay": [config.optimizer.weight_decay_of(group) for group in groups],
        "slot": slot,
        "atomic": config.workers > 0 and bool(getattr(config.strategy, "atomic", True)),
    }
