"""What a job's compute is charged as: one usage event for each worker and each interval of its driver's life.

Ids are `train:{job}:{epoch}:{interval}:{worker}`, and an interval begins a whole number of its lengths after the epoch did; so
whoever meters an interval again, after whatever end of the service, makes the same event.
"""

from __future__ import annotations

from dataclasses import dataclass

from aimass.billing.ledger import Usage

INTERVAL_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Makes the usage events of one job under one epoch.

    Args:
        epoch_started: where its intervals are counted from, in Unix seconds.
        workers: how many are charged; a job that trains in the driver has one.
        reservation: what was put aside for them.
    """

    job: str
    project: str
    model: str
    epoch: int
    epoch_started: float
    workers: int
    reservation: str | None = None

    def charge(self, since: float, until: float, *, last: bool = False) -> tuple[list[Usage], float]:
        """The events of a stretch of time, and up to when they reach.

        Args:
            since: up to when the epoch is metered, in Unix seconds.
            until: up to when the driver is known to have lived.
            last: include the interval that is not over.

        >>> meter = Meter(job="job-1", project="p", model="m", epoch=2, epoch_started=100.0, workers=1)
        >>> events, reached = meter.charge(100.0, 114.5, last=True)
        >>> [(event.id, event.quantity) for event in events], reached
        ([('train:job-1:2:0:0', 10000), ('train:job-1:2:1:0', 4500)], 114.5)
        """
        events: list[Usage] = []
        interval = round((since - self.epoch_started) / INTERVAL_S)
        while True:
            end = self.epoch_started + (interval + 1) * INTERVAL_S
            if end > until:
                break
            events += self._events(interval, since, end)
            since, interval = end, interval + 1
        if last and until > since:
            events += self._events(interval, since, until)
            since = until
        return events, since

    def _events(self, interval: int, since: float, until: float) -> list[Usage]:
        quantity = round((until - since) * 1000)
        return [
            Usage(
                id=f"train:{self.job}:{self.epoch}:{interval}:{worker}",
                time=until,
                project=self.project,
                kind="training",
                item="training",
                model=self.model,
                quantity=quantity,
                unit="worker-ms",
                reservation=self.reservation,
                data={"job": self.job, "epoch": self.epoch, "interval": interval, "worker": worker},
            )
            for worker in range(self.workers)
            if quantity
        ]
