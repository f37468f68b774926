"""What a driver is told: the settings, and where the data and the model to begin with lie in its folder."""

from __future__ import annotations

import re
import time
from typing import Any

from sqlalchemy import Row, select

from aimass.core.errors import NotFound
from aimass.service.jobs.folder import JobFolder
from aimass.service.jobs.rooms import Rooms
from aimass.service.jobs.starts import lay
from aimass.store import tables


def prepare(rooms: Rooms, folder: JobFolder, job: Row[Any], epoch: int) -> dict[str, Any]:
    """Lay the data and the model to begin with into a job's folder, and return the orders of its next driver.

    Raises:
        NotFound: the bytes of one of them are gone.
        StorageError: the model's are damaged, or the disk is full.
    """
    with rooms.database.read() as connection:
        dataset = connection.execute(select(tables.datasets).where(tables.datasets.c.id == job.dataset_id)).one_or_none()
    if dataset is None:
        raise NotFound(f"the data set {job.dataset_id} is gone; create it again, and the job")
    folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if dataset.sample is not None:
        source = dataset.sample
    else:
        path = folder.path / "data" / f"{_stem(dataset.name)}{dataset.suffix}"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            rooms.blobs.copy_to(dataset.sha256, path)
        source = str(path)
    lineage = {"file": dataset.file_id, "sample": dataset.sample, "sha256": dataset.sha256, "dataset": dataset.id}
    start_from = job.config.get("start_from")
    start = None
    if start_from is not None:
        start = {"name": start_from, "folder": str(lay(rooms, folder.path, job.project_id, start_from))}
        lineage["start_from"] = start_from
    return {
        "job": job.id,
        "epoch": epoch,
        "written": time.time(),
        "from_step": folder.newest_step(),
        "config": job.config,
        "data": {"name": dataset.name, "source": source, "options": dataset.settings},
        "start": start,
        "lineage": lineage,
    }


def _stem(name: str) -> str:
    """A file's name that people recognise, of letters that are harmless in a path."""
    return re.sub(r"[^\w-]+", "_", name)[:64] or "data"
