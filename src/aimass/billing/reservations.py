"""Reservations: parts of a budget that are put aside, posted to the ledger, and held by a lease.

What is reserved is what `reservations` holds, and equals the balance of `reserved:<project>`. A charge that names its reservation
uses it up in the transaction that posts the charge, so that spent and reserved together never rise by it.
"""

from __future__ import annotations

import time as clocks

from sqlalchemy import Connection, and_, delete, or_, select, update

from aimass.billing import ledger
from aimass.store import tables
from aimass.store.database import Database

LOST_S = 86_400.0


def release(connection: Connection, reservation: str, amount_micro: int | None = None) -> int:
    """Give back what is left of a reservation, or a part of it, in the caller's transaction.

    Returns:
        how much was given back.
    """
    row = tables.reservations.c
    found = connection.execute(select(tables.reservations).where(row.id == reservation).with_for_update()).one_or_none()
    if found is None:
        return 0
    given = found.amount_micro if amount_micro is None else min(amount_micro, found.amount_micro)
    if given:
        lines = [(f"reserved:{found.project_id}", -given), (f"budget:{found.project_id}", given)]
        ledger.enter(connection, "release", lines, time=clocks.time())
    if amount_micro is None:
        connection.execute(delete(tables.reservations).where(row.id == reservation))
    else:
        connection.execute(update(tables.reservations).where(row.id == reservation).values(amount_micro=row.amount_micro - given))
    return int(given)


def release_all(connection: Connection, *, holder: str) -> int:
    """Give back everything that a holder has put aside, in the caller's transaction."""
    row = tables.reservations.c
    held = connection.execute(select(row.id).where(row.holder == holder).order_by(row.id)).scalars().all()
    return sum(release(connection, reservation) for reservation in held)


def renew(connection: Connection, *, holder: str, lease_s: float) -> None:
    """Hold everything of a holder for longer, in the caller's transaction."""
    row = tables.reservations.c
    connection.execute(update(tables.reservations).where(row.holder == holder).values(expires=clocks.time() + lease_s))


def expire(connection: Connection, *, now: float | None = None) -> int:
    """Give back what nobody holds any more, in the caller's transaction.

    A gateway's slice outlives its lease as long as its log is open: charges that are in the log and not in the ledger yet are
    covered by it. Whoever adopts the log posts them and then gives back the rest. Only when nobody could for a day, because the host
    is gone, is the slice given back all the same.

    Returns:
        how much was given back.
    """
    moment = clocks.time() if now is None else now
    row, log = tables.reservations.c, tables.usage_logs.c
    recording = select(log.incarnation).where(log.incarnation == row.holder, log.closed.is_(None)).exists()
    over = or_(and_(row.expires < moment, ~recording), row.expires < moment - LOST_S)
    found = connection.execute(select(row.id).where(over).order_by(row.id).with_for_update()).scalars().all()  # one renewed meanwhile stays
    return sum(release(connection, reservation) for reservation in found)


def any_expired(database: Database) -> bool:
    """Whether `expire` might find something; asked first, since a look disturbs no writer."""
    with database.read() as connection:
        found = select(tables.reservations.c.id).where(tables.reservations.c.expires < clocks.time()).limit(1)
        return connection.execute(found).one_or_none() is not None
