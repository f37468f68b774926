"""Budgets: how much a project may spend in a period, enforced from the ledger alone.

What is spent is the sum of `spend:<project>` in the period; what is reserved is the sum of the project's reservations. Money is put
aside only while both together stay within the limit, under a lock on the budget, so that no two gateways put aside the same.
"""

from __future__ import annotations

import time as clocks
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, cast, delete, func, select, update

from aimass.billing import ledger
from aimass.billing.money import micro_of, usd
from aimass.billing.periods import period
from aimass.billing.statements import bump, insert
from aimass.core.errors import NotFound, QuotaExceeded, UsageError
from aimass.core.ids import new_id
from aimass.store import tables

LEASE_S = 60.0
_HIGHEST_MICRO = 10**17


@dataclass(frozen=True, slots=True)
class Reserved:
    """Money that is put aside.

    Args:
        amount_micro: what this call added.
    """

    id: str
    amount_micro: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget, and how it stands."""

    project: str
    limit_micro: int
    period: str
    updated: float
    spent_micro: int
    reserved_micro: int
    resets: float | None

    @property
    def available_micro(self) -> int:
        return self.limit_micro - self.spent_micro - self.reserved_micro

    def refusal(self, wanted_micro: int) -> QuotaExceeded:
        """Why nothing more can be put aside."""
        every = "in all" if self.resets is None else f"a {self.period}"
        until = "until it is raised" if self.resets is None else f"until {datetime.fromtimestamp(self.resets, UTC):%Y-%m-%d %H:%M} UTC"
        return QuotaExceeded(
            f"the budget of {self.project} is ${usd(self.limit_micro)} {every}; ${usd(self.spent_micro)} of it is spent and "
            f"${usd(self.reserved_micro)} put aside for what is under way, which leaves less than the ${usd(wanted_micro)} this takes, "
            f"{until}; an admin can raise it: aimass budgets set {self.project} USD, or PUT /v1/budgets/{self.project}"
        )


def set_budget(
    connection: Connection,
    project: str,
    *,
    limit_usd: str | None = None,
    limit_micro: int | None = None,
    period_name: str = "month",
    now: float | None = None,
) -> dict[str, Any]:
    """Give a project a budget, or change it. Gateways follow within a second.

    Args:
        limit_usd: such as `"1.50"`; or `limit_micro`, in micro-units.
        period_name: day, month (both UTC) or total.

    Raises:
        UsageError: no limit, an amount that is none, or an unknown period.
        NotFound: there is no such project.
    """
    if (limit_usd is None) == (limit_micro is None):
        raise UsageError("a budget needs limit_usd, an amount in dollars such as '1.50'")
    limit = micro_of(limit_usd) if limit_usd is not None else int(limit_micro or 0)
    if not 0 <= limit <= _HIGHEST_MICRO:
        raise UsageError(f"a budget is from $0 to ${usd(_HIGHEST_MICRO)}")
    moment = clocks.time() if now is None else now
    period(period_name, moment)
    if connection.execute(select(tables.projects.c.id).where(tables.projects.c.id == project)).one_or_none() is None:
        raise NotFound(f"there is no project {project!r}; `aimass projects list` shows them, and GET /v1/projects")
    values = {"limit_micro": limit, "period": period_name, "updated": moment}
    statement = insert(connection, tables.budgets).values(project_id=project, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["project_id"], set_=values))
    bump(connection)
    return get_budget(connection, project, now=now)


def get_budget(connection: Connection, project: str, *, now: float | None = None) -> dict[str, Any]:
    """A project's budget and how it stands.

    Raises:
        NotFound: it has none.
    """
    found = standing(connection, project, now=now)
    if found is None:
        raise NotFound(f"{project} has no budget; `aimass budgets set {project} USD` gives it one, and PUT /v1/budgets/{project}")
    return {
        "object": "budget",
        "project": project,
        "limit_micro": found.limit_micro,
        "limit_usd": usd(found.limit_micro),
        "period": found.period,
        "spent_micro": found.spent_micro,
        "spent_usd": usd(found.spent_micro),
        "reserved_micro": found.reserved_micro,
        "reserved_usd": usd(found.reserved_micro),
        "available_micro": max(0, found.available_micro),
        "available_usd": usd(max(0, found.available_micro)),
        "resets_at": None if found.resets is None else int(found.resets),
        "updated_at": int(found.updated),
    }


def delete_budget(connection: Connection, project: str) -> None:
    """Let a project spend without a limit. Gateways follow within a second.

    Raises:
        NotFound: it has none.
    """
    row = tables.budgets.c.project_id
    if not connection.execute(delete(tables.budgets).where(row == project)).rowcount:
        raise NotFound(f"{project} has no budget")
    bump(connection)


def standing(connection: Connection, project: str, *, now: float | None = None, lock: bool = False) -> Standing | None:
    """How a project's budget stands, of one moment; None where it has none.

    Args:
        lock: keep others from putting aside money of it until the transaction ends.
    """
    row, moment = tables.budgets.c, clocks.time() if now is None else now
    query = select(row.limit_micro, row.period, row.updated).where(row.project_id == project)
    budget = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if budget is None:
        return None
    start, end = period(budget.period, moment)
    entry, held = tables.entries.c, tables.reservations.c
    spent = select(_sum(entry.amount_micro)).where(entry.account == f"spend:{project}", entry.time >= start)
    reserved = select(_sum(held.amount_micro)).where(held.project_id == project)
    figures = connection.execute(select(spent.scalar_subquery(), reserved.scalar_subquery())).one()
    return Standing(project, budget.limit_micro, budget.period, budget.updated, int(figures[0]), int(figures[1]), end)


def reserve(
    connection: Connection,
    project: str,
    amount_micro: int,
    *,
    holder: str,
    at_best_micro: int = 0,
    reservation: str | None = None,
    lease_s: float = LEASE_S,
    now: float | None = None,
) -> Reserved | None:
    """Put money aside, in the caller's transaction. None where the project has no budget.

    Args:
        amount_micro: what is needed.
        holder: who gives it back, or whose charges use it up: they name the reservation.
        at_best_micro: take up to this much where a quarter of what is left allows it.
        reservation: an earlier one of the holder's, to be enlarged.
        lease_s: how long it is held without being renewed.

    Raises:
        QuotaExceeded: the budget has less than `amount_micro` left.
    """
    moment = clocks.time() if now is None else now
    found = standing(connection, project, now=now, lock=True)
    if found is None:
        return None
    if found.available_micro < amount_micro:
        raise found.refusal(amount_micro)
    amount = max(amount_micro, min(at_best_micro, found.available_micro // 4))
    lines = [(f"reserved:{project}", amount), (f"budget:{project}", -amount)]
    ledger.enter(connection, "reserve", lines, time=moment)
    row = tables.reservations.c
    if reservation is not None:
        more = update(tables.reservations).where(row.id == reservation)
        if connection.execute(more.values(amount_micro=row.amount_micro + amount, expires=moment + lease_s)).rowcount:
            return Reserved(reservation, amount)
    made = {"id": new_id("rsv"), "project_id": project, "holder": holder, "amount_micro": amount, "expires": moment + lease_s}
    connection.execute(tables.reservations.insert().values(**made))
    return Reserved(str(made["id"]), amount)


def _sum(column: Any) -> Any:
    return cast(func.coalesce(func.sum(column), 0), BigInteger)
