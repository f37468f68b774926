"""What people ask of jobs, as transactions on their rows. Answers are plain dicts, ready for JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from aimass.core.config import nest
from aimass.core.errors import Conflict, DataError, NotFound, UsageError
from aimass.core.ids import new_id
from aimass.models.config import CUSTOM
from aimass.service.jobs import journal, starts
from aimass.service.jobs.limits import Limits, share_of
from aimass.service.jobs.queue import CANCELLED, ENDED, FAILED, QUEUED, SUCCEEDED, VALIDATING
from aimass.service.jobs.rooms import Rooms
from aimass.store import tables
from aimass.store.database import Database
from aimass.store.names import check_name, fitting_name
from aimass.store.paging import Page, fetch
from aimass.training.config import TrainConfig
from aimass.training.settling import changed, settle
from aimass.training.starting import takes_family
from aimass.training.stopping import check_target

LONGEST = 1000
"""How many events a page has at most."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A job that somebody asks for; the fields are those of `Jobs.create`."""

    dataset: str
    model: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    cpus: float | None = None
    memory: str | int | None = None


def create(rooms: Rooms, limits: Limits, project: str, wanted: Wanted) -> dict[str, Any]:
    """See `Jobs.create`."""
    config, _ = settle(wanted.config)
    _check_config(config)
    config = starts.pin(rooms, project, config, takes_family=takes_family(wanted.config))
    share = share_of(config.workers, wanted.cpus, wanted.memory, limits)
    if wanted.model is not None:
        check_name(wanted.model)
    job, data = new_id("job"), tables.datasets.c
    with rooms.database.write() as connection:
        dataset = connection.execute(select(tables.datasets).where(data.id == wanted.dataset, data.project_id == project)).one_or_none()
        if dataset is None:
            raise NotFound(f"there is no data set {wanted.dataset!r} in this project; list them to see which there are")
        _check_data(config, dataset.description)
        values = {
            "id": job,
            "project_id": project,
            "dataset_id": dataset.id,
            "model": wanted.model or fitting_name(dataset.name),
            "config": config.model_dump(mode="json"),
            "cpus": share.cpus,
            "memory_bytes": share.memory_bytes,
            "state": VALIDATING,
            "created": time.time(),
        }
        connection.execute(tables.jobs.insert().values(**values))
        journal.note(connection, job, "created", "the job is created")
    return get(rooms.database, project, job)


def get(database: Database, project: str, job: str) -> dict[str, Any]:
    """See `Jobs.get`."""
    with database.read() as connection:
        return shown(_row(connection, project, job))


def page_of(database: Database, project: str, page: Page, status: str | None) -> dict[str, Any]:
    """See `Jobs.list`."""
    wanted = _jobs().where(tables.jobs.c.project_id == project)
    if status is not None:
        wanted = wanted.where(tables.jobs.c.state == status)
    with database.read() as connection:
        rows, has_more = fetch(connection, wanted, tables.jobs.c.id, page)
    return _page([shown(row) for row in rows], has_more)


def cancel(database: Database, project: str, job: str) -> dict[str, Any]:
    """See `Jobs.cancel`."""
    row = tables.jobs.c
    with database.write() as connection:
        waiting = (row.id == job, row.project_id == project, row.state.in_((VALIDATING, QUEUED)))
        values = {"state": CANCELLED, "ended": time.time(), "cancel_requested": True}
        if connection.execute(update(tables.jobs).where(*waiting).values(**values)).rowcount:
            journal.note(connection, job, CANCELLED, "the job is cancelled before its turn came")
        else:
            found = _row(connection, project, job)
            if found.state in ENDED:
                raise Conflict(f"{job} has ended already: it is {found.state}; only jobs that wait or run can be cancelled")
            running = (row.id == job, row.state == found.state, row.cancel_requested.is_(False))
            if connection.execute(update(tables.jobs).where(*running).values(cancel_requested=True)).rowcount:
                journal.note(connection, job, "cancelling", "it was asked to stop, and writes a checkpoint first")
        return shown(_row(connection, project, job))


def resume(database: Database, limits: Limits, project: str, job: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """See `Jobs.resume`."""
    with database.write() as connection:
        found = _row(connection, project, job)
        if found.state not in (FAILED, CANCELLED):
            advice = "start a new job to train again" if found.state == SUCCEEDED else "cancel it first"
            raise Conflict(f"{job} is {found.state}; only failed and cancelled jobs can be resumed; {advice}")
        config = changed(TrainConfig.parse(found.config), changes) if changes else TrainConfig.parse(found.config)
        _check_config(config)
        check_target(config.stop, _task_of(connection, found.dataset_id))
        workers_changed = config.workers != found.config["workers"]
        share = share_of(config.workers, None if workers_changed else found.cpus, None if workers_changed else found.memory_bytes, limits)
        values = {"state": VALIDATING, "config": config.model_dump(mode="json"), "cpus": share.cpus, "memory_bytes": share.memory_bytes}
        fresh = {"error": None, "metrics": None, "ended": None, "cancel_requested": False, "deaths": 0, "driver": None, "owner": None}
        mine = (tables.jobs.c.id == job, tables.jobs.c.state == found.state, tables.jobs.c.epoch == found.epoch)
        if not connection.execute(update(tables.jobs).where(*mine).values(**values, **fresh)).rowcount:
            raise Conflict(f"{job} was resumed at the same moment; look at it again")
        journal.note(connection, job, "resumed", "the job goes on from its newest checkpoint", changes=nest(dict(changes)))
        return shown(_row(connection, project, job))


def events(database: Database, project: str, job: str, after: int, limit: int) -> dict[str, Any]:
    """See `Jobs.events`."""
    if not 1 <= limit <= LONGEST:
        raise UsageError(f"limit={limit}: a page has 1 to {LONGEST} events")
    with database.read() as connection:
        _row(connection, project, job)
        found = journal.read(connection, job, after, limit + 1)
    return _page(found[:limit], len(found) > limit)


def events_after(database: Database, project: str, job: str, after: int, limit: int) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """See `Jobs.events_after`."""
    with database.read() as connection:
        row = _row(connection, project, job)  # first: whoever has ended tells nothing more
        found = journal.read(connection, job, after, limit)
    return found, shown(row) if row.state in ENDED and len(found) < limit else None


def shown(row: Row[Any]) -> dict[str, Any]:
    """A job, as the API shows it."""
    return {
        "id": row.id,
        "object": "training.job",
        "status": row.state,
        "model": row.model,
        "dataset": row.dataset_id,
        "config": row.config,
        "cpus": row.cpus,
        "memory_bytes": row.memory_bytes,
        "created_at": int(row.created),
        "started_at": None if row.started is None else int(row.started),
        "finished_at": None if row.ended is None else int(row.ended),
        "progress": row.progress,
        "metrics": row.metrics,
        "result": None if row.number is None else {"model": row.model, "version": row.number},
        "error": row.error,
        "run": row.run_id,
        "epoch": row.epoch,
    }


def _jobs() -> Select[Any]:
    return select(tables.jobs, tables.versions.c.number).outerjoin(tables.versions, tables.versions.c.id == tables.jobs.c.version_id)


def _row(connection: Connection, project: str, job: str) -> Row[Any]:
    row = connection.execute(_jobs().where(tables.jobs.c.id == job, tables.jobs.c.project_id == project)).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job!r} in this project; list them to see which there are")
    return row


def _task_of(connection: Connection, dataset: str) -> str:
    description = connection.execute(select(tables.datasets.c.description).where(tables.datasets.c.id == dataset)).scalar_one()
    return str(description["task"])


def _page(data: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    ids = [entry["id"] for entry in data]
    return {"object": "list", "data": data, "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None, "has_more": has_more}


def _check_config(config: TrainConfig) -> None:
    """Refuse what a job cannot do, though a run of one's own could."""
    if config.model.name == CUSTOM:
        raise UsageError(
            "model='custom' needs a module of yours, which cannot reach the service; train it with aimass.train, then upload it"
        )
    if config.health.webhook is not None:
        raise UsageError(
            "health.webhook is for runs of your own: a job's could make the service call addresses that only it can reach; "
            "follow the job's events instead"
        )
    if config.device != "cpu":
        raise UsageError(f"device={config.device!r} is not there; jobs of this service compute on: cpu")


def _check_data(config: TrainConfig, description: Mapping[str, Any]) -> None:
    """Refuse what cannot work on this data, as far as its description tells."""
    split = description.get("split") or {}
    if not split:
        raise DataError(
            "the data set has no target, so nothing can be trained on it; create it again with target= (on the command line --target)"
        )
    if not split.get("train"):
        raise DataError(
            "the training split is empty; create the data set again with a share for it, such as split=[0.8, 0.1, 0.1] "
            "(on the command line --split 0.8,0.1,0.1)"
        )
    check_target(config.stop, description["task"])
    condition = config.stop.target_condition
    if condition is not None and condition[0] != "train_loss" and not split.get("validation"):
        raise UsageError(
            f"stop.target={config.stop.target!r} needs validation rows, and the split has none; create the data set again with "
            "split=[0.8, 0.1, 0.1] (on the command line --split 0.8,0.1,0.1)"
        )
