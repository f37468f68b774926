"""Data sets: a file or a sample, read and described, with what is to be predicted."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import Connection, Row, delete, select

from aimass.core.errors import AimassError, Conflict, NotFound, UsageError, unknown_name
from aimass.core.ids import new_id
from aimass.data import load
from aimass.data.samples import SAMPLES
from aimass.service.auth import Member
from aimass.service.routes.files import find_file
from aimass.service.shapes import NAME, Asked, Deleted, Here, ListOf, Paging, failures, listing, new_router
from aimass.store.paging import fetch
from aimass.store.tables import datasets, jobs

router = new_router("data sets")

_Text = Annotated[str, Field(min_length=1, max_length=256)]
_SETTINGS = ("target", "schema", "missing", "split", "seed", "task", "stratify", "weight")


class Split(BaseModel):
    """How many rows each part has."""

    train: int
    validation: int
    test: int


class Dataset(BaseModel):
    """A data set: what its columns are, what is to be predicted, how its rows are split."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    file: str | None
    sample: str | None
    target: str
    task: str
    rows: int
    columns: dict[str, Any]
    classes: dict[str, int] | None
    split: Split
    notes: list[str]
    fingerprint: str
    created_at: int


class NewDataset(Asked):
    """Where the rows come from, and what is to be predicted. The settings mean what they mean in `aimass.load`."""

    name: str | None = Field(None, pattern=NAME, description="the file's or the sample's if not given")
    file: _Text | None = Field(None, description="the id of a file")
    sample: _Text | None = Field(None, description=f"one of {', '.join(SAMPLES)}")
    target: _Text | None = Field(None, description="the column to predict; samples have one")
    schema_: dict[str, Literal["numeric", "categorical", "boolean", "ignored"]] | None = Field(None, alias="schema")
    missing: list[str | float] | None = Field(None, max_length=100, description="spellings of 'missing' beyond the usual ones")
    split: list[float] | None = Field(None, min_length=3, max_length=3, description="the shares of training, validation and test")
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    task: Literal["binary", "multiclass", "regression", "language"] | None = None
    stratify: bool | None = None
    weight: _Text | None = None


@router.post("/v1/datasets", response_model=Dataset, responses=failures(404, 409, 415))
def create(asked: NewDataset, caller: Member, platform: Here) -> Any:
    """Make a data set from a file or a sample. It is read and checked before the answer."""
    if (asked.file is None) == (asked.sample is None):
        raise UsageError("give either 'file', the id of a file, or 'sample', the name of one that ships with aimass")
    settings = {name: value for name, value in asked.model_dump(by_alias=True, exclude_none=True).items() if name in _SETTINGS}
    row: dict[str, Any] = {"id": new_id("ds"), "project_id": caller.project, "settings": settings, "created": time.time()}
    if asked.sample is not None:
        if asked.sample not in SAMPLES:
            raise unknown_name("sample", asked.sample, SAMPLES)
        row |= {"name": asked.name or asked.sample, "sample": asked.sample, "description": load(asked.sample, **settings).describe()}
    else:
        with platform.database.read() as connection:
            file = find_file(connection, caller.project, asked.file or "")
        suffix = Path(file.filename).suffix[:16]
        row |= {
            "name": asked.name or _name(file.filename),
            "file_id": file.id,
            "sha256": file.sha256,
            "suffix": suffix,
            "description": _describe(platform, file, suffix, settings),
        }
    with platform.database.write() as connection:
        if asked.file is not None:
            find_file(connection, caller.project, asked.file)  # it may have been deleted while it was read
        return _shown(connection.execute(datasets.insert().values(row).returning(datasets)).one())


def _describe(platform: Any, file: Row[Any], suffix: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Read a copy of the file; what is wrong with it is said of the file by its own name."""
    with TemporaryDirectory(dir=platform.cache, prefix="read-") as folder:
        copy = Path(folder) / f"data{suffix}"
        platform.blobs.copy_to(file.sha256, copy)
        try:
            return load(copy, **settings).describe()
        except AimassError as error:
            raise type(error)(str(error).replace(str(copy), file.filename).replace(copy.name, file.filename)) from None


def _name(filename: str) -> str:
    """A name from a label.

    >>> _name("my sales (2024).csv"), _name("日本.csv")
    ('my-sales-2024', 'data')
    """
    import re

    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(filename).stem).strip("-._")[:128] or "data"


@router.get("/v1/datasets", response_model=ListOf[Dataset], responses=failures())
def list_datasets(caller: Member, platform: Here, page: Paging) -> Any:
    """The project's data sets, newest first."""
    with platform.database.read() as connection:
        rows, more = fetch(connection, select(datasets).where(datasets.c.project_id == caller.project), datasets.c.id, page)
    return listing(([_shown(row) for row in rows], more))


@router.get("/v1/datasets/{dataset_id}", response_model=Dataset, responses=failures(404))
def show(dataset_id: str, caller: Member, platform: Here) -> Any:
    """One data set."""
    with platform.database.read() as connection:
        return _shown(find_dataset(connection, caller.project, dataset_id))


@router.delete("/v1/datasets/{dataset_id}", response_model=Deleted, responses=failures(404, 409))
def remove(dataset_id: str, caller: Member, platform: Here) -> Any:
    """Delete a data set that no job was trained on."""
    with platform.database.write() as connection:
        find_dataset(connection, caller.project, dataset_id)
        user = connection.execute(select(jobs.c.id).where(jobs.c.dataset_id == dataset_id).limit(1)).scalar()
        if user is not None:
            raise Conflict(f"the job {user} was given {dataset_id}; a data set stays as long as its jobs do")
        connection.execute(delete(datasets).where(datasets.c.id == dataset_id))
    return {"id": dataset_id, "object": "dataset"}


def find_dataset(connection: Connection, project: str, dataset_id: str) -> Row[Any]:
    """A project's data set.

    Raises:
        NotFound: it has none of this id.
    """
    row = connection.execute(select(datasets).where(datasets.c.id == dataset_id, datasets.c.project_id == project)).one_or_none()
    if row is None:
        raise NotFound(f"there is no data set {dataset_id!r} in this project; GET /v1/datasets lists those there are")
    return row


def _shown(row: Row[Any]) -> dict[str, Any]:
    told = row.description
    return {
        "id": row.id,
        "name": row.name,
        "file": row.file_id,
        "sample": row.sample,
        "created_at": int(row.created),
        **{name: told[name] for name in ("target", "task", "rows", "columns", "classes", "split", "notes", "fingerprint")},
    }
