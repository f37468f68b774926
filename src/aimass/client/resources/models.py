"""`client.models`: models and their versions in the registry."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from aimass.client.answers import Model, Version, answer_of, entry_of, nothing
from aimass.client.call import Call, Listing, Progress, Request, get, new_key, part, put, remove
from aimass.client.multipart import Form
from aimass.client.operation import Awaiting, Blocking, listing, operation, procedure
from aimass.client.transport import Steps
from aimass.core.errors import AimassError, NotFound, UsageError

_MODELS = "/v1/registry/models"
_LONG_S = 3600.0


class ModelCalls:
    """Models, and their numbered versions, which never change."""

    @listing
    def list(self, *, limit: int | None = None, after: str | None = None) -> Listing[Model]:
        """The models; `limit` of them at most."""
        return Listing(request=get(_MODELS, after=after), read=entry_of(Model), limit=limit)

    @operation
    def get(self, name: str) -> Call[Model]:
        """One model: its newest version and its aliases."""
        return Call(request=get(f"{_MODELS}/{part(name)}"), read=answer_of(Model))

    @listing
    def versions(self, name: str, *, limit: int | None = None, after: str | None = None) -> Listing[Version]:
        """The versions of a model, the newest first."""
        return Listing(request=get(f"{_MODELS}/{part(name)}/versions", after=after), read=entry_of(Version), limit=limit)

    @operation
    def version(self, name: str, version: int | str | None = None) -> Call[Version]:
        """One version: its card, lineage, signature and files.

        Args:
            version: its number, or an alias; by default the newest.

        Raises:
            NotFound: there is no such version.
        """
        return _version(name, version)

    @operation
    def upload(self, name: str, folder: str | Path, *, progress: Progress | None = None) -> Call[Version]:
        """Keep a model that `Model.save` wrote as the next version of a name.

        Args:
            folder: the model's.
            progress: called with the bytes that have gone, and how many there are.

        Raises:
            NotFound: there is no model at `folder`.
        """
        path = Path(folder).expanduser()
        if not (path / "model.json").is_file():
            raise NotFound(f"{path} is no model: it has no model.json; give the folder that Model.save wrote")
        inside = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        form = Form.of(*inside, progress=progress)
        headers = {"idempotency-key": new_key()}
        request = Request(method="POST", path=f"{_MODELS}/{part(name)}/versions", form=form, headers=headers, limit_s=_LONG_S)
        return Call(request=request, read=answer_of(Version))

    @operation
    def set_alias(self, name: str, alias: str, version: int) -> Call[None]:
        """Let an alias, such as `production`, stand for a version; it moves in one step."""
        return Call(request=put(f"{_MODELS}/{part(name)}/aliases/{part(alias)}", {"version": version}), read=nothing)

    @operation
    def delete_alias(self, name: str, alias: str) -> Call[None]:
        """Take an alias away. The version stays."""
        return Call(request=remove(f"{_MODELS}/{part(name)}/aliases/{part(alias)}"), read=nothing)

    @procedure
    def download(self, name: str, folder: str | Path, *, version: int | str | None = None) -> Steps[Path]:
        """Write a version as a folder that `aimass.load` takes, whole or not at all.

        Args:
            folder: where; a model that is there is replaced.
            version: its number, or an alias; by default the newest.

        Raises:
            UsageError: something that is no model is at `folder`.
        """
        from aimass.core.files import whole_folder

        path = Path(folder).expanduser()
        if path.exists() and not (path / "model.json").is_file() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path} is there already and is no model; choose another folder")
        found: Version = yield _version(name, version)
        with whole_folder(path) as unfinished:
            for name_inside, file in found.files.items():
                inner = _inner_path(name_inside)
                into, steps = unfinished / inner, "/".join(map(part, inner.parts))
                yield Call(request=get(f"{_MODELS}/{part(name)}/versions/{found.version}/files/{steps}"), read=nothing, into=into)
                _check(into, file.sha256)
        return path


def _version(name: str, version: int | str | None) -> Call[Version]:
    which = "newest" if version is None else version
    return Call(request=get(f"{_MODELS}/{part(name)}/versions/{part(which)}"), read=answer_of(Version))


def _inner_path(name: str) -> PurePosixPath:
    """A file's path inside its folder; a service that names one outside of it is not followed."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise AimassError(f"the service names a file {name!r}, which lies in no model's folder; nothing was written")
    return path


def _check(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise AimassError(f"{path.name} did not arrive as it was kept; download it again")


class Models(ModelCalls, Blocking):
    """Models, and their numbered versions."""


class AsyncModels(ModelCalls, Awaiting):
    """Models, and their numbered versions; every method is awaited."""
