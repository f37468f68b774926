"""Which model version a name means: the deployments, from memory, each with its files in a folder.

`Changes` calls `read` when a deployment has changed; a thread of the directory's own fetches files that are not here yet, so that a large
model from a far store holds up nobody. What could not be fetched is tried again, for a store may be away for a while.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from aimass.core.errors import AimassError, NotFound, Unavailable
from aimass.service.auth import Keys
from aimass.serving.ports import Caller, Target
from aimass.store.database import Database
from aimass.store.registry import Registry, Version
from aimass.store.tables import deployments

_AGAIN_S = 15.0
_log = logging.getLogger("aimass.service")


class Directory:
    """Keys and deployments, as the gateway asks for them (`serving.ports.Directory`).

    Args:
        database: where the deployments are.
        registry: where their versions are.
        keys: who calls.
        cache: the folder for the versions' files.
        again_s: after which pause files that could not be fetched are tried again.
    """

    def __init__(self, database: Database, registry: Registry, keys: Keys, cache: Path, again_s: float = _AGAIN_S) -> None:
        self._database, self._registry, self._cache, self._again_s = database, registry, cache, again_s
        self.caller = keys.caller
        self._targets: dict[tuple[str, str], Target] = {}
        self._awaited: dict[tuple[str, str], Row[Any]] = {}
        self._made_of: dict[tuple[str, str], tuple[str, float]] = {}
        self._versions: dict[str, tuple[Version, Path]] = {}
        self._failures: dict[str, str] = {}
        self._reading = threading.Lock()
        self._to_fetch: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def target(self, caller: Caller, name: str, version: str | None) -> Target:
        """The version that answers under a deployment's name. From memory.

        Raises:
            NotFound: the caller's project has no such deployment, or it has another version.
            Unavailable: its files are not here yet.
        """
        found = self._targets.get((caller.project, name))
        if found is None:
            raise self._missing(caller.project, name)
        if version is not None and version != str(found.version):
            raise NotFound(f"{name!r} answers with version {found.version}, not with {version[:20]!r}; deploy that one under another name")
        return found

    def targets(self, project: str) -> list[Target]:
        """All deployments of a project that can answer, by name."""
        return sorted((target for (owner, _), target in self._targets.items() if owner == project), key=lambda target: target.name)

    def is_current(self, target: Target) -> bool:
        """Whether a target is what its name stands for just now."""
        found = self._targets.get((target.project, target.name))
        return found is not None and found.version_id == target.version_id and found.settings == target.settings

    def state(self, version_id: str) -> tuple[str, str | None]:
        """Whether a version's files are here: `ready`, `loading` or `failed`, and why it failed."""
        if version_id in self._failures:
            return "failed", self._failures[version_id]
        return ("ready" if version_id in self._versions else "loading"), None

    def failed(self, version_id: str, reason: str | None) -> None:
        """Remember, or with None forget, that a version could not be loaded."""
        if reason is None:
            self._failures.pop(version_id, None)
        else:
            self._failures[version_id] = reason

    def prepare(self, version: Version) -> Path:
        """Have a version's files here, and remember where.

        Raises:
            StorageError: they are damaged, or the disk is full.
        """
        folder = self._registry.materialise(version, self._cache)
        self._versions[version.id] = (version, folder)
        self._failures.pop(version.id, None)
        return folder

    def make_target(self, version: Version, name: str, settings: Mapping[str, Any]) -> Target:
        """What an engine needs of a version under a name. Its files must have been prepared."""
        return Target(
            project=version.project,
            name=name,
            model=version.model,
            version=version.number,
            version_id=version.id,
            folder=self._versions[version.id][1],
            bytes=version.bytes,
            settings=dict(settings),
            signature=version.signature,
        )

    def read(self) -> None:
        """Take the deployments into memory. One that has not changed keeps its target."""
        with self._reading:  # so that nobody puts what was read before over what was read after
            with self._database.read() as connection:
                rows = connection.execute(select(deployments)).all()
            self._take(rows)

    def _take(self, rows: Sequence[Row[Any]]) -> None:
        targets: dict[tuple[str, str], Target] = {}
        awaited: dict[tuple[str, str], Row[Any]] = {}
        made_of: dict[tuple[str, str], tuple[str, float]] = {}
        for row in rows:
            place, made = (row.project_id, row.name), (row.id, row.updated)
            if place in self._targets and self._made_of.get(place) == made:
                targets[place] = self._targets[place]
            elif row.version_id in self._versions:
                targets[place] = self.make_target(self._versions[row.version_id][0], row.name, row.settings)
            else:
                if place not in self._awaited or self._awaited[place].version_id != row.version_id:
                    self._to_fetch.put(row.version_id)
                awaited[place] = row
            made_of[place] = made
        self._targets, self._awaited, self._made_of = targets, awaited, made_of

    def start(self) -> None:
        """Start the thread that fetches files."""
        self._thread = threading.Thread(target=self._fetch, name="directory", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; a fetch that is under way is finished first."""
        self._to_fetch.put(None)
        if self._thread is not None:
            self._thread.join()

    def _fetch(self) -> None:
        while True:
            try:
                version_id = self._to_fetch.get(timeout=self._again_s)
            except queue.Empty:
                for version_id in {row.version_id for row in self._awaited.values()}:
                    self._to_fetch.put(version_id)
                continue
            if version_id is None:
                return
            try:
                if version_id not in self._versions:
                    self.prepare(self._registry.version_by_id(version_id))
                with self._reading:
                    self._arrived(version_id)
            except Exception as error:  # noqa: BLE001 - the others are to be fetched all the same
                if self._failures.get(version_id) != str(error):
                    _log.error("version %s cannot be fetched: %s", version_id, error)
                self.failed(version_id, str(error))

    def _arrived(self, version_id: str) -> None:
        """Let the deployments that awaited a version answer."""
        found = {place: row for place, row in self._awaited.items() if row.version_id == version_id}
        version = self._versions[version_id][0]
        made = {place: self.make_target(version, row.name, row.settings) for place, row in found.items()}
        self._targets = {**self._targets, **made}
        self._awaited = {place: row for place, row in self._awaited.items() if place not in found}

    def _missing(self, project: str, name: str) -> AimassError:
        row = self._awaited.get((project, name))
        if row is not None:
            failure = self._failures.get(row.version_id)
            return Unavailable(f"the deployment {name!r} is not ready: {failure or 'its files are being fetched; try again in a moment'}")
        names = [target.name for target in self.targets(project)]
        known = f"; there are: {', '.join(names[:20])}" if names else "; deploy a model first: `aimass deploy MODEL`"
        return NotFound(f"there is no deployment {name[:128]!r} in this project{known}")
