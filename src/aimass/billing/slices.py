"""Slices of budgets that a gateway holds and spends from memory.

A slice is a reservation in the ledger. Requests take their cost out of it on the event loop; when it is too small it is topped up
in a thread. What is not used for a while, or belongs to a budget that changed, is given back. A project without a budget is not
known here at all.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass

from sqlalchemy import select

from aimass.billing import budgets, reservations
from aimass.billing.money import usd
from aimass.core.errors import QuotaExceeded
from aimass.store import tables
from aimass.store.database import Database

IDLE_S = 2.0
_REFUSED_FOR_S = 0.2  # a budget that is used up is asked for again only so often
_GROWS_WITHIN_S = 2.0  # a slice that lasted less than this is followed by one of twice the size
_FIRST = 16  # requests that a first slice is enough for


@dataclass(slots=True)
class _Slice:
    terms: tuple[int, str, float]  # limit, period and last change of the budget
    reservation: str | None = None
    left_micro: int = 0
    size_micro: int = 0
    used_at: float = 0.0
    topped_at: float = 0.0
    refused_until: float = 0.0
    refusal: str = ""


class Slices:
    """The slices of one gateway.

    Args:
        holder: the incarnation whose log names them.
    """

    def __init__(self, database: Database, holder: str) -> None:
        self.holder = holder
        self._database, self._lock = database, threading.Lock()
        self._turn = threading.Lock()  # one thread at a time talks to the database about slices
        self._held: dict[str, _Slice] = {}
        self._topping: dict[str, asyncio.Task[str]] = {}

    def __contains__(self, project: str) -> bool:
        return project in self._held

    def covers(self, project: str, amount_micro: int) -> bool:
        """Whether a charge of this much could be taken now."""
        held = self._held.get(project)
        return held is None or held.left_micro >= amount_micro

    def take(self, project: str, amount_micro: int) -> str | None:
        """Take a charge out of the slice.

        Returns:
            the reservation that the charge uses up; None where the project has no budget any more.

        Raises:
            QuotaExceeded: the slice does not cover it.
        """
        with self._lock:
            held = self._held.get(project)
            if held is None:
                return None
            if held.left_micro < amount_micro:
                raise QuotaExceeded(
                    held.refusal or f"what is put aside for {project} does not cover ${usd(amount_micro)}; reserve more, then try again"
                )
            held.left_micro -= amount_micro
            held.used_at = time.monotonic()
            return held.reservation

    def put_back(self, project: str, reservation: str, amount_micro: int) -> None:
        """Undo a `take` whose charge was not written."""
        with self._lock:
            held = self._held.get(project)
            if held is not None and held.reservation == reservation:
                held.left_micro += amount_micro

    async def top_up(self, project: str, amount_micro: int) -> None:
        """Wait until the slice covers a charge; those who wait for one project are served by one transaction.

        Raises:
            QuotaExceeded: the budget has no more.
        """
        while not self.covers(project, amount_micro):
            held = self._held.get(project)
            if held is not None and time.monotonic() < held.refused_until:
                raise QuotaExceeded(held.refusal)
            under_way = self._topping.get(project)
            if under_way is None or under_way.done() or under_way.get_loop() is not asyncio.get_running_loop():
                under_way = asyncio.create_task(asyncio.to_thread(self._enlarge, project, amount_micro))
                self._topping[project] = under_way
                under_way.add_done_callback(lambda done: self._topped(project, done))
            if (refusal := await asyncio.shield(under_way)) and not self.covers(project, amount_micro):
                raise QuotaExceeded(refusal)  # and not by the clock: a slow database's answer may be old when it comes

    def refresh(self) -> None:
        """Follow the budgets as they stand: those that changed, came or went."""
        row = tables.budgets.c
        with self._turn:
            with self._database.read() as connection:
                found = connection.execute(select(row.project_id, row.limit_micro, row.period, row.updated)).all()
            terms = {project: (limit, period, updated) for project, limit, period, updated in found}
            for project, held in list(self._held.items()):
                if terms.get(project) != held.terms:
                    self._give_back(project, forget=True)
            for project, now in terms.items():
                if project not in self._held:
                    self._held[project] = _Slice(now)

    def give_back_idle(self) -> None:
        """Give back what was not used lately, so that other gateways may spend it."""
        with self._turn:
            for project, held in list(self._held.items()):
                if held.left_micro and time.monotonic() - held.used_at > IDLE_S:
                    self._give_back(project, forget=False)

    def renew(self) -> None:
        """Hold what is put aside for longer."""
        if any(held.reservation for held in self._held.values()):
            with self._database.write() as connection:
                reservations.renew(connection, holder=self.holder, lease_s=budgets.LEASE_S)

    def move_to(self, holder: str) -> None:
        """Let another incarnation of this gateway hold the slices from now on."""
        row = tables.reservations.c
        with self._turn:
            with self._database.write() as connection:
                connection.execute(tables.reservations.update().where(row.holder == self.holder).values(holder=holder))
            self.holder = holder

    def _topped(self, project: str, done: asyncio.Task[str]) -> None:
        if self._topping.get(project) is done:
            del self._topping[project]
        if not done.cancelled():
            done.exception()  # those who wait are told; here it only counts as heard

    def _enlarge(self, project: str, amount_micro: int) -> str:
        """Put more aside. Why not, where the budget has no more; else nothing."""
        with self._turn:
            held = self._held.get(project)
            if held is None or held.left_micro >= amount_micro:
                return ""
            now = time.monotonic()
            lasted = now - held.topped_at
            size = max(_FIRST * amount_micro, 2 * held.size_micro if lasted < _GROWS_WITHIN_S else 0)
            missing = amount_micro - held.left_micro
            try:
                with self._database.write() as connection:
                    more = budgets.reserve(
                        connection, project, missing, holder=self.holder, at_best_micro=size, reservation=held.reservation
                    )
            except QuotaExceeded as refused:
                held.refusal, held.refused_until = str(refused), time.monotonic() + _REFUSED_FOR_S
                return held.refusal
            with self._lock:
                if more is None:
                    self._held.pop(project, None)
                else:
                    held.reservation, held.size_micro, held.topped_at, held.refusal = more.id, more.amount_micro, now, ""
                    held.left_micro += more.amount_micro
                    held.used_at = now
            return ""

    def _give_back(self, project: str, *, forget: bool) -> None:
        with self._lock:
            held = self._held[project]
            left, held.left_micro = held.left_micro, 0
            if forget:
                del self._held[project]
        if left and held.reservation:
            try:
                with self._database.write() as connection:
                    reservations.release(connection, held.reservation, left)
            except BaseException:
                held.left_micro += left
                if forget:
                    self._held.setdefault(project, held)
                raise
