"""From a run that has ended well to a version in the registry, with a card and a lineage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from aimass.service.jobs.folder import JobFolder
from aimass.store.blobs import Blob, Blobs
from aimass.store.registry import Registry, Version
from aimass.store.saved import files_of, read_signature


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What will be published; its bytes are in the store already.

    Args:
        name: the model's name in the registry.
        files: path in the version, and blob.
    """

    project: str
    name: str
    files: dict[str, Blob]
    signature: dict[str, Any]
    card: dict[str, Any]
    lineage: dict[str, Any]

    @classmethod
    def of(cls, folder: JobFolder, job: Row[Any], result: dict[str, Any], blobs: Blobs) -> Outcome:
        """Put the bytes of the job's model into the store. Slow; no transaction is held.

        Raises:
            DataError, NotFound: the folder holds no model.
            StorageError: the store does not take it.
        """
        model = folder.path / "runs" / result["run"] / "model"
        signature = read_signature(model)
        files = {name: blobs.put_file(path) for name, path in files_of(model).items()}
        named = ("data", "metrics", "curve", "duration_s", "environment")
        card = {"config": job.config, **{name: result[name] for name in named}}
        lineage = {**(folder.orders() or {})["lineage"], "job": job.id, "run": result["run"]}
        return cls(project=job.project_id, name=job.model, files=files, signature=signature, card=card, lineage=lineage)


def publish(connection: Connection, registry: Registry, outcome: Outcome) -> Version:
    """Make the version, in the caller's transaction."""
    return registry.publish(
        connection,
        project=outcome.project,
        name=outcome.name,
        files=outcome.files,
        signature=outcome.signature,
        card=outcome.card,
        lineage=outcome.lineage,
    )
