"""Where the service of jobs keeps things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """What requests and runners of jobs work with.

    Args:
        home: under it, `jobs/` holds a folder for each job.
    """

    database: Database
    blobs: Blobs
    registry: Registry
    home: Path
