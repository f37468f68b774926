"""What every parameter server offers, whatever carries the bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, final

from aimass.parameters.layout import LEASE_NUMBER, NOBODY

if TYPE_CHECKING:
    from torch import Tensor


class Pushed(Enum):
    """What became of a push."""

    APPLIED = auto()
    NOT_FINITE = auto()
    """The gradient held NaN or infinity: nothing was applied, and its batch counts as done."""
    LEASE_LOST = auto()
    """The batch's lease had gone to another worker: nothing was applied."""


@dataclass(slots=True)
class Ticket:
    """The right to commit one batch: a push that carries it is admitted while the lease cell still has this epoch.

    Args:
        cell: which lease cell.
        epoch: the lease's epoch that the worker holds.
        committed: the number of the lease's batches that are committed once this push is.
        weight: how much what is pushed counts beside what others push: its rows, or the sum of their weights.
    """

    cell: int
    epoch: int
    committed: int
    weight: float = 1.0


@dataclass(kw_only=True)
class Snapshot:
    """One consistent moment: no push is half in it, and its lease cells name exactly the batches that are."""

    parameters: Tensor  # (num_parameters,)
    states: dict[str, Tensor] = field(default_factory=dict)  # each (num_parameters,)
    clock: int = 0
    cells: list[list[int]] = field(default_factory=list)
    next_lease: int = 0

    @property
    def open_cells(self) -> list[list[int]]:
        """The lease cells that hold a lease."""
        return [cell for cell in self.cells if cell[LEASE_NUMBER] != NOBODY]

    def copy(self, into: Snapshot | None = None) -> Snapshot:
        """The same with vectors of its own.

        Args:
            into: an older copy, which is used up: its vectors are overwritten, since fresh memory costs more than the copying does.
        """
        old = {} if into is None else {"": into.parameters, **into.states}
        new = {name: _copy(vector, old.get(name)) for name, vector in {"": self.parameters, **self.states}.items()}
        return replace(self, parameters=new.pop(""), states=new)


def _copy(vector: Tensor, into: Tensor | None) -> Tensor:
    return vector.clone() if into is None or into.shape != vector.shape else into.copy_(vector)


class ParameterServer(ABC):
    """A vector p with a clock that counts the pushes applied to it."""

    @abstractmethod
    def pull(self, out: Tensor) -> int:
        """Copy p into `out`, shape (num_parameters,), and return the clock that it had."""

    @abstractmethod
    def push(self, gradient: Tensor, clock: int, ticket: Ticket | None = None) -> Pushed:
        """Apply one gradient, shape (num_parameters,), taken at `clock`: wholly, or not at all."""

    @abstractmethod
    def wait(self, clock: int, timeout_s: float) -> bool:
        """Wait until the server's clock is at least `clock`. False when the time ran out first."""

    @abstractmethod
    def paused(self, tend: Callable[[], None] | None = None) -> AbstractContextManager[Snapshot]:
        """Hold back pushes while a `with` block lasts, and give everything as it stands: in place, to be read inside the block alone.

        Args:
            tend: called while pushes under way are waited for. It must `recover` the slots of workers that have died.
        """

    @final
    def snapshot(self, tend: Callable[[], None] | None = None, into: Snapshot | None = None) -> Snapshot:
        """Copy everything at one moment at which no push is under way.

        Args:
            tend: as for `paused`.
            into: an older snapshot to overwrite.
        """
        with self.paused(tend) as moment:
            return moment.copy(into)

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot. No worker may be pushing."""
