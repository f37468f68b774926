"""A project's usage, its invoices, the prices, and budgets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import BaseModel, Field
from sqlalchemy import select

from aimass.billing import budgets, invoices, prices, usage
from aimass.core.errors import Forbidden, NotFound
from aimass.service.auth import Admin, Member
from aimass.service.shapes import DAY, Asked, Deleted, Here, ListOf, Paging, failures, new_router
from aimass.serving.ports import Caller
from aimass.store.tables import projects

router = new_router("usage and billing")

_Time = Annotated[float | None, Query(ge=0, le=DAY, allow_inf_nan=False, description="Unix seconds")]
_Name = Annotated[str | None, Query(max_length=200)]


class UsedItem(BaseModel):
    """What was used of one item of the price plan."""

    item: str
    unit: str
    events: int
    quantity: int
    amount_micro: int
    amount_usd: str
    in_doubt: int


class Used(BaseModel):
    """What was used and what it costs."""

    object: Literal["usage"] = "usage"
    project: str | None
    start: int | None
    end: int | None
    items: list[UsedItem]
    amount_micro: int
    amount_usd: str


class UsageEvent(BaseModel):
    """One answered request, or one slice of compute."""

    id: str
    object: Literal["usage.event"] = "usage.event"
    created_at: int
    project: str
    key: str | None
    kind: str
    item: str
    model: str
    version: int | None
    quantity: int
    unit: str
    price: str
    amount_micro: int
    amount_usd: str
    transaction: str
    request: str | None
    in_doubt: bool
    credited: bool
    data: dict[str, Any] | None


class Price(BaseModel):
    """A price, valid from a moment on."""

    id: str
    object: Literal["price"] = "price"
    item: str
    unit: str
    micro_per_million: int
    usd_per_million: str
    currency: str
    valid_from: int
    current: bool | None = None


class NewPrice(Asked):
    """What an item is to cost from now on."""

    item: str = Field(pattern=r"^[a-z][a-z0-9._-]{0,127}$")
    micro_per_million: int = Field(ge=0, le=2**53, description="micro-dollars for a million units")
    unit: str | None = Field(None, pattern=r"^[a-z][a-z0-9._-]{0,31}$", description="needed for an item that is new")


class NewBudget(Asked):
    """What a project may spend."""

    limit_usd: str = Field(min_length=1, max_length=32, description='dollars, such as "1.50"')
    period: Literal["day", "month", "total"] = "month"


class Budget(BaseModel):
    """A budget and how it stands."""

    object: Literal["budget"] = "budget"
    project: str
    limit_micro: int
    limit_usd: str
    period: str
    spent_micro: int
    spent_usd: str
    reserved_micro: int
    reserved_usd: str
    available_micro: int
    available_usd: str
    resets_at: int | None
    updated_at: int


class InvoiceLine(BaseModel):
    """A line of an invoice. `events` is the query that lists what it is made of."""

    type: Literal["charge", "credit"]
    item: str
    model: str
    version: int | None
    quantity: int
    unit: str
    price: str
    price_micro_per_million: int
    price_usd_per_million: str
    num_events: int
    in_doubt: int
    amount_micro: int
    amount_usd: str
    events: str


class Doubt(BaseModel):
    """Events of which it is not known whether their answers arrived."""

    num_events: int
    events: str | None


class Invoice(BaseModel):
    """What a project owes for whole days. The lines add up to the subtotal, and that is the ledger's."""

    id: str
    object: Literal["invoice"] = "invoice"
    project: str
    start: int
    end: int
    period: str
    final: bool
    created_at: int
    currency: str
    lines: list[InvoiceLine]
    num_events: int
    subtotal_micro: int
    subtotal_usd: str
    ledger_micro: int
    in_doubt: Doubt


@router.get("/v1/usage", response_model=Used, responses=failures(404))
def show_usage(
    caller: Member,
    platform: Here,
    start: _Time = None,
    end: _Time = None,
    item: _Name = None,
    model: _Name = None,
    project: _Name = None,
) -> Any:
    """What the project used, by item."""
    chosen = usage.Filter(project=_project(platform, caller, project), item=item, model=model, start=start, end=end)
    with platform.database.read() as connection:
        return usage.totals(connection, chosen)


@router.get("/v1/usage/events", response_model=ListOf[UsageEvent], responses=failures(404))
def list_events(
    caller: Member,
    platform: Here,
    page: Paging,
    start: _Time = None,
    end: _Time = None,
    item: _Name = None,
    model: _Name = None,
    version: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    key: _Name = None,
    price: _Name = None,
    in_doubt: bool | None = None,
    credited: bool | None = None,
    project: _Name = None,
) -> Any:
    """The project's usage events, newest first: each answered request, each slice of training."""
    chosen = usage.Filter(
        project=_project(platform, caller, project),
        item=item,
        model=model,
        version=version,
        key=key,
        price=price,
        start=start,
        end=end,
        in_doubt=in_doubt,
        credited=credited,
    )
    with platform.database.read() as connection:
        return usage.events(connection, chosen, page)


@router.get(
    "/v1/invoices",
    response_model=Invoice,
    responses={**failures(404), 200: {"content": {"application/json": {}, "text/csv": {"schema": {"type": "string"}}}}},
)
def show_invoice(
    caller: Member,
    platform: Here,
    project: _Name = None,
    start: _Time = None,
    end: _Time = None,
    format: Literal["json", "csv"] = "json",
) -> Any:
    """The invoice of a project for whole days (UTC), by default those of this month. As CSV with `format=csv`."""
    with platform.database.read() as connection:
        made = invoices.invoice(connection, _project(platform, caller, project), start=start, end=end)
    if format == "json":
        return made
    label = {"content-disposition": f'attachment; filename="{made["id"]}.csv"'}
    return Response(invoices.to_csv(made), media_type="text/csv", headers=label)


@router.get("/v1/prices", response_model=ListOf[Price], responses=failures())
def list_prices(caller: Member, platform: Here) -> Any:
    """The price plan: every price, and which are valid now."""
    with platform.database.read() as connection:
        found = prices.list_prices(connection)
    return {"data": found, "first_id": found[0]["id"] if found else None, "last_id": found[-1]["id"] if found else None}


@router.put("/v1/prices", response_model=Price, responses=failures(415))
def set_price(asked: NewPrice, caller: Admin, platform: Here) -> Any:
    """Give an item a new price from now on. What was charged keeps the price it had."""
    with platform.database.write() as connection:
        price = prices.set_price(connection, asked.item, asked.micro_per_million, unit=asked.unit)
    platform.meter.changed()
    return {**prices.to_json(price), "current": True}


@router.get("/v1/budgets/{project}", response_model=Budget, responses=failures(404))
def show_budget(project: str, caller: Admin, platform: Here) -> Any:
    """A project's budget, and how it stands."""
    found = _project(platform, caller, project)
    with platform.database.read() as connection:
        return budgets.get_budget(connection, found)


@router.put("/v1/budgets/{project}", response_model=Budget, responses=failures(404, 415))
def set_budget(project: str, asked: NewBudget, caller: Admin, platform: Here) -> Any:
    """Give a project a budget, or change it. Every service follows within a second."""
    found = _project(platform, caller, project)
    with platform.database.write() as connection:
        made = budgets.set_budget(connection, found, limit_usd=asked.limit_usd, period_name=asked.period)
    platform.meter.changed()
    return made


@router.delete("/v1/budgets/{project}", response_model=Deleted, responses=failures(404))
def remove_budget(project: str, caller: Admin, platform: Here) -> Any:
    """Let a project spend without a limit."""
    found = _project(platform, caller, project)
    with platform.database.write() as connection:
        budgets.delete_budget(connection, found)
    platform.meter.changed()
    return {"id": found, "object": "budget"}


def _project(platform: Any, caller: Caller, asked: str | None) -> str:
    """The id of the project that is meant: the caller's own, or for an administrator any, by id or name."""
    if asked is None or asked == caller.project:
        return caller.project
    with platform.database.read() as connection:
        found = connection.execute(select(projects.c.id).where((projects.c.id == asked) | (projects.c.name == asked))).scalar()
    if found == caller.project:
        return caller.project
    if caller.role != "admin":
        raise Forbidden(f"this key may not see project {asked[:128]!r}; leave it out, or use an admin's key")
    if found is None:
        raise NotFound(f"there is no project {asked[:128]!r}; `aimass projects list` shows those there are, and GET /v1/projects")
    return str(found)
