"""One epoch's driver, as the service sees it: a process of its own child, or one that an earlier service left in the folder."""

from __future__ import annotations

import time
from typing import Any

from aimass.service.jobs import process
from aimass.service.jobs.folder import Holder, JobFolder
from aimass.service.jobs.identity import Identity

_STARTING_S = 5.0


class Attempt:
    """The driver that was started under `epoch`.

    Args:
        folder: the job's.
        epoch: whose driver it is.
    """

    def __init__(self, folder: JobFolder, epoch: int) -> None:
        self.folder, self.epoch = folder, epoch
        self.status: int | None = None
        self._child: int | None = None

    def start(self, orders: dict[str, Any], cpus: float) -> None:
        """Start the driver on its orders."""
        self.folder.write_orders(orders)
        self._child = process.start(self.folder.path, self.epoch, cpus, self.folder.log)

    @property
    def result(self) -> dict[str, Any] | None:
        """How it ended, if it has said so."""
        return self.folder.result(self.epoch)

    @property
    def holder(self) -> Holder | None:
        """Its sign of life, once it has taken the folder."""
        holder = self.folder.holder()
        return holder if holder is not None and holder.epoch == self.epoch else None

    @property
    def process(self) -> Identity | None:
        """Which process it is."""
        holder = self.holder
        if holder is not None:
            return holder.process
        return Identity.of(self._child) if self._child is not None else None

    def lives(self) -> bool:
        """Whether it is there. One that an earlier service has only just started gets a moment to take the folder."""
        if self._child is not None:
            self.status = process.reap(self._child)
            self._child = self._child if self.status is None else None
            return self.status is None
        if self.folder.is_held():
            return True
        written = (self.folder.orders() or {}).get("written", 0.0)
        return self.status is None and self.holder is None and abs(time.time() - float(written)) < _STARTING_S

    @property
    def has_lived(self) -> bool:
        """Whether it is known to have begun. A service that died while it started a driver tells nothing of the job."""
        return self.status is not None or self.holder is not None

    def lived_until(self) -> float:
        """Up to when it is known to have worked; 0 where it never did."""
        result, holder = self.result, self.holder
        if result is not None:
            return float(result["ended"])
        if self._child is not None or (holder is not None and self.folder.is_held()):
            return time.time()
        return holder.seen if holder is not None else 0.0

    def how(self) -> str:
        """How it died, for a sentence."""
        if self.status is None:
            return ""
        return f" (killed by signal {-self.status})" if self.status < 0 else f" (exit status {self.status})"
