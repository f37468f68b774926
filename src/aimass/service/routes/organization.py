"""Usage and costs of all projects over time, in OpenAI's shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import BaseModel

from aimass.billing import buckets
from aimass.service.auth import Admin
from aimass.service.shapes import DAY, Here, failures, new_router

router = new_router("usage and billing")
_Texts = Annotated[list[str] | None, Query(max_length=100)]


class Amount(BaseModel):
    """An amount of money, as a number because OpenAI's clients want one; `amount_micro` beside it is exact."""

    value: float
    currency: str


class CompletionsResult(BaseModel):
    """Requests of one group. Tokens are none of this service's."""

    object: Literal["organization.usage.completions.result"]
    input_tokens: int
    output_tokens: int
    input_cached_tokens: int
    num_model_requests: int
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    user_id: str | None = None
    batch: bool | None = None
    service_tier: str | None = None


class PredictionsResult(BaseModel):
    """Predictions of one group."""

    object: Literal["organization.usage.predictions.result"]
    num_rows: int
    num_model_requests: int
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None


class TrainingResult(BaseModel):
    """Training of one group."""

    object: Literal["organization.usage.training.result"]
    worker_ms: int
    num_intervals: int
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None


class CostsResult(BaseModel):
    """Costs of one group."""

    object: Literal["organization.costs.result"]
    amount: Amount
    amount_micro: int
    line_item: str | None = None
    project_id: str | None = None
    api_key_id: str | None = None
    quantity: float | None = None
    quantity_unit: str | None = None


class Bucket(BaseModel):
    """A span of time."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[CompletionsResult | PredictionsResult | TrainingResult | CostsResult]


class BucketPage(BaseModel):
    """A page of buckets."""

    object: Literal["page"] = "page"
    data: list[Bucket]
    has_more: bool
    next_page: str | None


async def _asked(
    start_time: Annotated[int, Query(ge=0, le=DAY, description="Unix seconds")],
    end_time: Annotated[int | None, Query(ge=0, le=DAY)] = None,
    bucket_width: Literal["1m", "1h", "1d"] = "1d",
    limit: Annotated[int | None, Query(ge=1, le=1440)] = None,
    page: Annotated[str | None, Query(max_length=64)] = None,
    project_ids: _Texts = None,
    api_key_ids: _Texts = None,
    models: _Texts = None,
    line_items: _Texts = None,
    group_by: _Texts = None,
    more_project_ids: Annotated[list[str] | None, Query(alias="project_ids[]", max_length=100)] = None,
    more_api_key_ids: Annotated[list[str] | None, Query(alias="api_key_ids[]", max_length=100)] = None,
    more_models: Annotated[list[str] | None, Query(alias="models[]", max_length=100)] = None,
    more_line_items: Annotated[list[str] | None, Query(alias="line_items[]", max_length=100)] = None,
    more_group_by: Annotated[list[str] | None, Query(alias="group_by[]", max_length=100)] = None,
) -> buckets.Buckets:
    """Lists may be written as `models=a&models=b`, or with brackets as OpenAI's clients do."""
    return buckets.Buckets(
        start_time=start_time,
        end_time=end_time,
        bucket_width=bucket_width,
        limit=limit,
        page=page,
        project_ids=project_ids or more_project_ids,
        api_key_ids=api_key_ids or more_api_key_ids,
        models=models or more_models,
        line_items=line_items or more_line_items,
        group_by=group_by or more_group_by,
    )


_Asked = Annotated[buckets.Buckets, Depends(_asked)]


@router.get("/v1/organization/usage/completions", response_model=BucketPage, responses=failures())
def completions(asked: _Asked, caller: Admin, platform: Here) -> Any:
    """Answered requests, in the shape of OpenAI's completions."""
    with platform.database.read() as connection:
        return buckets.usage(connection, "completions", asked)


@router.get("/v1/organization/usage/predictions", response_model=BucketPage, responses=failures())
def predictions(asked: _Asked, caller: Admin, platform: Here) -> Any:
    """Rows predicted for, and answered requests."""
    with platform.database.read() as connection:
        return buckets.usage(connection, "predictions", asked)


@router.get("/v1/organization/usage/training", response_model=BucketPage, responses=failures())
def training(asked: _Asked, caller: Admin, platform: Here) -> Any:
    """Milliseconds of workers that trained."""
    with platform.database.read() as connection:
        return buckets.usage(connection, "training", asked)


@router.get("/v1/organization/costs", response_model=BucketPage, responses=failures())
def costs(asked: _Asked, caller: Admin, platform: Here) -> Any:
    """What it costs, by day if nothing else is asked."""
    with platform.database.read() as connection:
        return buckets.costs(connection, asked)
