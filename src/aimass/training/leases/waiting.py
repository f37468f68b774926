"""A table whose workers wait for one another between two exchanges, and how seldom the driver has to hear of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aimass.training.leases.patience import Patience
from aimass.training.leases.plan import LeasePlan
from aimass.training.leases.table import LeaseTable

if TYPE_CHECKING:
    from aimass.parameters.shared_memory import SharedMemoryServer

_TELL_NS = 500_000_000


class WaitingTable(LeaseTable):
    """What the tables of rounds and of averages share.

    Args:
        server, plan, timeout_s: as for `LeaseTable`.
    """

    def __init__(self, server: SharedMemoryServer, plan: LeasePlan, timeout_s: float) -> None:
        super().__init__(server, plan, timeout_s)
        self._patience, self._told = Patience(), 0
        self._told_at = -1
        self._wake: Callable[[], None] | None = None

    def finished(self, wake: Callable[[], None]) -> None:
        """Wake the driver now and then; it has to know at once only at an epoch's end, and `claim` tells it that."""
        self._wake = wake
        if time.monotonic_ns() - self._told > _TELL_NS:
            self._told = time.monotonic_ns()
            wake()

    def _tell(self, first: int) -> None:
        """Wake the driver, once for each lease at which there is nothing left to claim."""
        if self._told_at != first and self._wake is not None:
            self._told_at = first
            self._wake()

    def pause(self) -> None:
        """Wait for the others' parts."""
        self._patience.pause()
