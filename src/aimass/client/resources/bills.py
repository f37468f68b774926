"""`client.usage()`, `client.invoice()` and their like: what was used, and what it costs."""

from __future__ import annotations

from typing import Any

from aimass.client.answers import document, nothing
from aimass.client.call import Call, Listing, get, part, put, remove
from aimass.client.operation import Awaiting, Blocking, listing, operation


class BillCalls:
    """What was used, and what it costs. Money comes as text, `amount_usd`, and as whole micro-units, `amount_micro`."""

    @operation
    def usage(self, *, start: float | None = None, end: float | None = None) -> Call[dict[str, Any]]:
        """The project's totals by item.

        Args:
            start: from when on, in Unix seconds; by default this month's beginning.
            end: until when.
        """
        return Call(request=get("/v1/usage", start=start, end=end), read=document)

    @listing
    def usage_events(
        self,
        *,
        item: str | None = None,
        model: str | None = None,
        start: float | None = None,
        end: float | None = None,
        in_doubt: bool | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Listing[dict[str, Any]]:
        """The single events that were charged, the newest first.

        Args:
            in_doubt: those only of which a kill left open whether their answer arrived.
        """
        query = {"item": item, "model": model, "start": start, "end": end, "in_doubt": in_doubt, "after": after}
        return Listing(request=get("/v1/usage/events", **query), read=dict, limit=limit)

    @operation
    def invoice(self, *, project: str | None = None, start: float | None = None, end: float | None = None) -> Call[dict[str, Any]]:
        """A project's invoice: its lines add up, and each names the query that lists its events."""
        return Call(request=get("/v1/invoices", project=project, start=start, end=end), read=document)

    @operation
    def invoice_csv(self, *, project: str | None = None, start: float | None = None, end: float | None = None) -> Call[str]:
        """The same invoice as CSV."""
        request = get("/v1/invoices", project=project, start=start, end=end, format="csv")
        return Call(request=request, read=lambda response: response.text)

    @operation
    def prices(self) -> Call[dict[str, Any]]:
        """What each item costs."""
        return Call(request=get("/v1/prices"), read=document)


class BudgetCalls:
    """What a project may spend in a period."""

    @operation
    def get(self, project: str) -> Call[dict[str, Any]]:
        """A project's budget, and what is left of it."""
        return Call(request=get(f"/v1/budgets/{part(project)}"), read=document)

    @operation
    def set(self, project: str, limit_usd: str, *, period: str = "month") -> Call[dict[str, Any]]:
        """Limit what a project may spend.

        Args:
            limit_usd: as text, such as `"12.50"`.
            period: after which it begins anew.
        """
        return Call(request=put(f"/v1/budgets/{part(project)}", {"limit_usd": limit_usd, "period": period}), read=document)

    @operation
    def delete(self, project: str) -> Call[None]:
        """Lift the limit."""
        return Call(request=remove(f"/v1/budgets/{part(project)}"), read=nothing)


class Budgets(BudgetCalls, Blocking):
    """What a project may spend in a period."""


class AsyncBudgets(BudgetCalls, Awaiting):
    """What a project may spend in a period; every method is awaited."""
