"""What a driver is told: the settings, and where the data lies in its folder."""

from __future__ import annotations

import re
import time
from typing import Any

from sqlalchemy import Row, select

from aimass.core.errors import NotFound
from aimass.service.jobs.folder import JobFolder
from aimass.store import tables
from aimass.store.blobs import Blobs
from aimass.store.database import Database


def prepare(database: Database, blobs: Blobs, folder: JobFolder, job: Row[Any], epoch: int) -> dict[str, Any]:
    """Lay the data into a job's folder, and return the orders of its next driver.

    Raises:
        NotFound: the data set's bytes are gone.
    """
    with database.read() as connection:
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
            blobs.copy_to(dataset.sha256, path)
        source = str(path)
    return {
        "job": job.id,
        "epoch": epoch,
        "written": time.time(),
        "from_step": folder.newest_step(),
        "config": job.config,
        "data": {"name": dataset.name, "source": source, "options": dataset.settings},
        "lineage": {"file": dataset.file_id, "sample": dataset.sample, "sha256": dataset.sha256, "dataset": dataset.id},
    }


def _stem(name: str) -> str:
    """A file's name that people recognise, of letters that are harmless in a path."""
    return re.sub(r"[^\w-]+", "_", name)[:64] or "data"
