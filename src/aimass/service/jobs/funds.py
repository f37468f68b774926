"""What a job puts aside of its project's budget, so that what it computes can be paid for.

Two intervals are put aside before it starts, and one more with each that is charged. Where the budget has no more, one interval is
still paid for, and in that time the driver writes its checkpoint. The next runner gives back what the one before put aside, so the
lease is long: it is for a job that nobody takes up any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from aimass.billing import budgets, prices
from aimass.billing.ledger import Usage
from aimass.billing.reservations import release_all
from aimass.service.jobs.metering import INTERVAL_S

_AHEAD = 2
_LEASE_S = 86_400.0


class Funds:
    """One job's part of the budget. Every method joins the caller's transaction.

    Args:
        job: its id; the reservations bear it.
        project: whose budget it is.
        workers: how many are charged.

    `reservation` is what the next charges use up.
    """

    def __init__(self, job: str, project: str, workers: int) -> None:
        self.job, self.project, self.workers = job, project, workers
        self.reservation: str | None = None

    def begin(self, connection: Connection, now: float) -> None:
        """Give back what an earlier runner put aside, and put aside what the next intervals cost.

        Raises:
            QuotaExceeded: the budget does not have it.
        """
        self.end(connection)
        self._reserve(connection, _AHEAD, now)

    def renew(self, connection: Connection, usage: Sequence[Usage], now: float) -> None:
        """Put as many intervals aside again as were charged, and never more than are put aside at first.

        Raises:
            QuotaExceeded: the budget does not have it; nothing has been changed.
        """
        if usage:
            self._reserve(connection, min(_AHEAD, len(usage) // self.workers), now)

    def end(self, connection: Connection) -> None:
        """Give back what is left."""
        release_all(connection, holder=self._holder)
        self.reservation = None

    @property
    def _holder(self) -> str:
        return f"job:{self.job}"

    def _reserve(self, connection: Connection, intervals: int, now: float) -> None:
        price = prices.read(connection).at("training", now).amount_micro(round(INTERVAL_S * 1000))
        amount_micro = price * self.workers * intervals
        found = budgets.reserve(connection, self.project, amount_micro, holder=self._holder, reservation=self.reservation, lease_s=_LEASE_S)
        self.reservation = None if found is None else found.id
