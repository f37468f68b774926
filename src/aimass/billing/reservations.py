"""Reservations: parts of a budget that are put aside, posted to the ledger, and held by a lease.

What is reserved is what `reservations` holds, and equals the balance of `reserved:<project>`. A charge that names its reservation
uses it up in the transaction that posts the charge, so that spent and reserved together never rise by it.
"""

from __future__ import annotations

import time as clocks

from sqlalchemy import Connection, delete, select, update

from aimass.billing import ledger
from aimass.store import tables


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
