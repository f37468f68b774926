"""Predictions under an `Idempotency-Key`, and the description of the path that all others take.

The gateway answers predictions before a request comes here. It hands over those with a key: their answer and their usage event are kept in
one transaction, so that a repeated request is answered again and never charged again.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from aimass.billing import budgets, ledger, prices
from aimass.billing.meter import ITEM, UNIT
from aimass.core.ids import new_id
from aimass.service.auth import Inference
from aimass.service.once import Claim, Stored, claim_of, key_of
from aimass.service.shapes import Here, PlainError, failures, new_router
from aimass.serving.bodies import json_length
from aimass.serving.frames import Reply
from aimass.serving.ports import Caller, Target

router = new_router("predictions")
_REFUSED = (404, 409, 415, 429, 503)
_STATUSES, _PLAIN = failures(*_REFUSED), failures(*_REFUSED, model=PlainError)


class Instances(BaseModel):
    """Rows to predict for: objects by column, or lists in the order of the signature's inputs."""

    instances: list[dict[str, Any] | list[Any]] = Field(min_length=1)


class Predictions(BaseModel):
    """An answer for each row, in their order: `prediction`, and for classes `probability` and `probabilities`."""

    predictions: list[dict[str, Any]]
    model: str
    version: int


class Tensors(BaseModel):
    """An inference request of the Open Inference Protocol, V2."""

    id: str | None = None
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] | None = None


class InferredTensors(BaseModel):
    """The answer to it."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[dict[str, Any]]


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post("/v1/models/{name}:predict", response_model=Predictions, responses=_STATUSES, openapi_extra=_body(Instances))
async def predict(name: str, request: Request, caller: Inference, platform: Here) -> Any:
    """Predict with the version that a deployment's name stands for."""
    return await _answer(request, platform, caller, name, None, "predict")


@router.post(
    "/v1/models/{name}/versions/{version}:predict", response_model=Predictions, responses=_STATUSES, openapi_extra=_body(Instances)
)
async def predict_version(name: str, version: str, request: Request, caller: Inference, platform: Here) -> Any:
    """Predict, provided that the name stands for this version."""
    return await _answer(request, platform, caller, name, version, "predict")


@router.post("/v2/models/{name}/infer", response_model=InferredTensors, responses=_PLAIN, openapi_extra=_body(Tensors))
async def infer(name: str, request: Request, caller: Inference, platform: Here) -> Any:
    """Infer by the Open Inference Protocol, in JSON or with binary tensors."""
    return await _answer(request, platform, caller, name, None, "infer")


@router.post("/v2/models/{name}/versions/{version}/infer", response_model=InferredTensors, responses=_PLAIN, openapi_extra=_body(Tensors))
async def infer_version(name: str, version: str, request: Request, caller: Inference, platform: Here) -> Any:
    """Infer, provided that the name stands for this version."""
    return await _answer(request, platform, caller, name, version, "infer")


async def _answer(request: Request, platform: Any, caller: Caller, name: str, version: str | None, kind: str) -> Response:
    headers = dict(request.scope["headers"])
    target: Target = platform.directory.target(caller, name, version)
    body = await request.body()
    length = json_length(headers, len(body)) if kind == "infer" else 0
    key = key_of(headers)
    claim = None if key is None else claim_of(caller.project, key, request.url.path.encode(), str(length).encode(), body)
    stored: Stored | None = None if claim is None else await run_in_threadpool(platform.answers.claim, claim)
    if stored is not None:
        return stored.response()
    try:
        reply, answer = await platform.center.answer(target, kind, body, length)
        if reply.status < 400:
            await run_in_threadpool(_charge, platform, caller, target, claim, reply, answer, request.state.request_id)
    except BaseException:
        await run_in_threadpool(_forget, platform, claim)
        raise
    if reply.status >= 400:
        await run_in_threadpool(_forget, platform, claim)
    return Response(answer, reply.status, _headers(reply))


def _forget(platform: Any, claim: Claim | None) -> None:
    if claim is not None:
        platform.answers.forget(claim)


def _charge(platform: Any, caller: Caller, target: Target, claim: Claim | None, reply: Reply, answer: bytes, request_id: str) -> None:
    """Put the event into the ledger and the answer beside its key, together or not at all.

    Raises:
        QuotaExceeded: the budget has no more.
    """
    now, event_id = time.time(), new_id("use")
    with platform.database.write() as connection:
        amount = prices.read(connection).at(ITEM, now).amount_micro(reply.rows)
        reserved = budgets.reserve(connection, caller.project, amount, holder=event_id, now=now)
        event = ledger.Usage(
            id=event_id,
            time=now,
            project=caller.project,
            kind="prediction",
            item=ITEM,
            model=target.name,
            version=target.version,
            quantity=reply.rows,
            unit=UNIT,
            key=caller.key,
            request=request_id,
            reservation=None if reserved is None else reserved.id,
        )
        ledger.post(connection, [event], now=now)
        if claim is not None:
            platform.answers.keep(connection, claim, Stored(200, answer, _headers(reply)))


def _headers(reply: Reply) -> dict[str, str]:
    if not reply.json_length:
        return {"content-type": "application/json"}
    return {"content-type": "application/octet-stream", "inference-header-content-length": str(reply.json_length)}
