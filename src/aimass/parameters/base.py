"""What every parameter server offers, whatever carries the bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

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
    """

    cell: int
    epoch: int
    committed: int


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
    def snapshot(self) -> Snapshot:
        """Copy everything at one moment at which no push is under way."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot. No worker may be pushing."""
