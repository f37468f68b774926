"""Training jobs: asked for, followed live, cancelled, resumed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

import anyio
from fastapi import Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from aimass.core.errors import UsageError
from aimass.service.auth import Member, is_good
from aimass.service.jobs.requests import LONGEST
from aimass.service.jobs.service import Jobs
from aimass.service.shapes import NAME, Asked, Here, ListOf, Paging, failures, new_router

router = new_router("training jobs")

_POLL_S = 0.25
_SILENCE_S = 15.0
_LARGEST = 2**31 - 1
_STREAM = "text/event-stream"
_Id = Annotated[str, Field(min_length=1, max_length=64)]
State = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]


class JobResult(BaseModel):
    """The version that a job made."""

    model: str
    version: int


class JobError(BaseModel):
    """What ended a job."""

    message: str
    code: str


class Job(BaseModel):
    """A training job. `epoch` is its attempt: it grows whenever another process takes it up."""

    id: str
    object: Literal["training.job"] = "training.job"
    status: State
    model: str
    dataset: str
    config: dict[str, Any]
    cpus: float
    memory_bytes: int
    created_at: int
    started_at: int | None
    finished_at: int | None
    progress: dict[str, Any] | None
    metrics: dict[str, Any] | None
    result: JobResult | None
    error: JobError | None
    run: str | None
    epoch: int


class JobEvent(BaseModel):
    """Something that happened in a job. `message` is a sentence where a person should see it."""

    object: Literal["training.job.event"] = "training.job.event"
    id: str
    seq: int
    created_at: int
    time: float
    type: str
    data: dict[str, Any]
    message: str | None


class NewJob(Asked):
    """What to train, and on which data."""

    dataset: _Id
    model: str | None = Field(None, pattern=NAME, description="what the registry calls the result; by default the data set's name")
    config: dict[str, Any] | None = Field(
        None, description="the settings of `aimass.train`, such as epochs, workers, optimizer; start_from is a version, such as churn@3"
    )
    cpus: float | None = Field(None, gt=0, le=100_000, description="processors that it may take; by default one a worker")
    memory: Annotated[int, Field(gt=0, le=2**50)] | Annotated[str, Field(max_length=32)] | None = Field(
        None, description="bytes, or such as '2GB'; by default 1 GB and 0.5 GB a worker"
    )


class Resumption(Asked):
    """What changes when a job goes on."""

    config: dict[str, Any] | None = Field(None, description="settings to change; the model, batch_size and seed stay")


@router.post("/v1/training/jobs", response_model=Job, responses=failures(404, 409, 415, 429))
def create(asked: NewJob, caller: Member, platform: Here) -> Any:
    """Queue a training job."""
    jobs: Jobs = platform.jobs
    return jobs.create(caller.project, dataset=asked.dataset, model=asked.model, config=asked.config, cpus=asked.cpus, memory=asked.memory)


@router.get("/v1/training/jobs", response_model=ListOf[Job], responses=failures())
def list_jobs(
    caller: Member, platform: Here, page: Paging, status: Annotated[State | None, Query(description="only those that stand so")] = None
) -> Any:
    """The project's jobs, newest first."""
    return platform.jobs.list(caller.project, page, status)


@router.get("/v1/training/jobs/{job}", response_model=Job, responses=failures(404))
def show(job: str, caller: Member, platform: Here) -> Any:
    """One job."""
    return platform.jobs.get(caller.project, job)


@router.post("/v1/training/jobs/{job}/cancel", response_model=Job, responses=failures(404, 409))
def cancel(job: str, caller: Member, platform: Here) -> Any:
    """Stop a job: at once while it waits; in order, with a checkpoint, while it runs."""
    return platform.jobs.cancel(caller.project, job)


@router.post("/v1/training/jobs/{job}/resume", response_model=Job, responses=failures(404, 409, 415, 429))
def resume(job: str, caller: Member, platform: Here, asked: Resumption | None = None) -> Any:
    """Let a failed or cancelled job go on from its newest checkpoint."""
    return platform.jobs.resume(caller.project, job, asked.config if asked else None)


@router.get(
    "/v1/training/jobs/{job}/events",
    response_model=ListOf[JobEvent],
    responses={**failures(404), 200: {"content": {_STREAM: {"schema": {"type": "string"}}}, "description": "a page, or a live stream"}},
)
async def events(
    job: str,
    request: Request,
    caller: Member,
    platform: Here,
    after: Annotated[int, Query(ge=-1, le=_LARGEST, description="the `seq` that the page before ended with")] = -1,
    limit: Annotated[int, Query(ge=1, le=LONGEST)] = 100,
    stream: Annotated[bool, Query(description="follow live, as does 'Accept: text/event-stream'")] = False,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Any:
    """What happened in a job, in order: a page of it, or live until the job has ended."""
    jobs: Jobs = platform.jobs
    if not stream and _STREAM not in request.headers.get("accept", ""):
        return await run_in_threadpool(jobs.events, caller.project, job, after, limit)
    begin = max(after, _seq(last_event_id))
    first = await run_in_threadpool(jobs.events_after, caller.project, job, begin)  # a job that is not there is a 404
    told = _follow(jobs, caller.project, job, begin, first, lambda: is_good(request))
    return StreamingResponse(told, media_type=_STREAM, headers={"cache-control": "no-store"})


async def _follow(
    jobs: Jobs,
    project: str,
    job: str,
    after: int,
    found: tuple[list[dict[str, Any]], dict[str, Any] | None],
    may_go_on: Callable[[], bool],
) -> AsyncIterator[str]:
    """The events as server-sent events. It looks again and again, and ends with its client, with the job, or with the client's key."""
    silent_s = 0.0
    while may_go_on():
        events, ended = found
        for event in events:
            after, silent_s = event["seq"], 0.0
            yield _sent(event["type"], event, event["id"])
        if ended is not None:
            yield _sent("done", ended)
            return
        if silent_s >= _SILENCE_S:
            silent_s = 0.0
            yield ": still here\n\n"
        if not events:
            await anyio.sleep(_POLL_S)
            silent_s += _POLL_S
        found = await run_in_threadpool(jobs.events_after, project, job, after)


def _sent(kind: str, data: dict[str, Any], identity: str | None = None) -> str:
    line = f"id: {identity}\n" if identity is not None else ""
    return f"{line}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def _seq(last_event_id: str | None) -> int:
    if last_event_id is None:
        return -1
    try:
        seq = int(last_event_id)
    except ValueError:
        seq = -2
    if not -1 <= seq <= _LARGEST:
        raise UsageError(f"Last-Event-ID={last_event_id!r} is no event's id; send the id of the last event that you have")
    return seq
