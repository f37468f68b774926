"""The registry: named models, their numbered versions, and the aliases that point at them."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from fastapi import Path as InPath
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from aimass.core.errors import DataError, NotFound, UsageError
from aimass.service.auth import Member
from aimass.service.once import claim_of_form
from aimass.service.routes.files import send_blob
from aimass.service.shapes import Asked, Deleted, Here, ListOf, Paging, failures, listing, new_router
from aimass.service.uploads import Received, receive_form
from aimass.store.registry import RegisteredModel, Version

router = new_router("registry")

_Ref = Annotated[str, InPath(max_length=128, description="a number, an alias, or `newest`")]
_MAX_FILES = 100
_LONGEST_NAME_BYTES = 200  # file systems take 255, and a file that is being written bears a longer name


class Model(BaseModel):
    """A named model."""

    id: str
    object: Literal["registry.model"] = "registry.model"
    name: str
    newest: int
    aliases: dict[str, int]
    created_at: int


class StoredFile(BaseModel):
    """A file of a version."""

    sha256: str
    bytes: int


class ModelVersion(BaseModel):
    """A version of a model. It never changes; only aliases move."""

    id: str
    object: Literal["registry.version"] = "registry.version"
    model: str
    version: int
    aliases: list[str]
    files: dict[str, StoredFile]
    bytes: int
    signature: dict[str, Any]
    card: dict[str, Any]
    lineage: dict[str, Any]
    created_at: int


class PointTo(Asked):
    """Where an alias is to point."""

    version: int = Field(ge=1, le=2**31 - 1)


class Alias(BaseModel):
    """An alias of a model."""

    object: Literal["registry.alias"] = "registry.alias"
    model: str
    alias: str
    version: int


@router.get("/v1/registry/models", response_model=ListOf[Model], responses=failures())
def list_models(caller: Member, platform: Here, page: Paging) -> Any:
    """The project's models, newest first."""
    found, more = platform.registry.models(caller.project, page)
    return listing(([_model(model) for model in found], more))


@router.get("/v1/registry/models/{name}", response_model=Model, responses=failures(404))
def show_model(name: str, caller: Member, platform: Here) -> Any:
    """One model: its newest version, and where its aliases point."""
    return _model(platform.registry.model(caller.project, name))


@router.get("/v1/registry/models/{name}/versions", response_model=ListOf[ModelVersion], responses=failures(404))
def list_versions(name: str, caller: Member, platform: Here, page: Paging) -> Any:
    """The versions of a model, newest first."""
    found, more = platform.registry.versions(caller.project, name, page)
    return listing(([_version(version) for version in found], more))


@router.get("/v1/registry/models/{name}/versions/{version}", response_model=ModelVersion, responses=failures(404))
def show_version(name: str, version: _Ref, caller: Member, platform: Here) -> Any:
    """One version: its card, where it comes from, its files."""
    return _version(_find(platform, caller.project, name, version))


@router.get(
    "/v1/registry/models/{name}/versions/{version}/files/{path:path}",
    response_class=StreamingResponse,
    responses={
        **failures(404, 416),
        200: {"content": {"application/octet-stream": {}}},
        206: {"content": {"application/octet-stream": {}}},
    },
)
def download(name: str, version: _Ref, path: str, request: Request, caller: Member, platform: Here) -> Response:
    """A file of a version."""
    found = _find(platform, caller.project, name, version)
    blob = found.files.get(path)
    if blob is None:
        raise NotFound(f"version {found.number} of {name!r} has no file {path[:200]!r}; it has {', '.join(found.files)}")
    label = PurePosixPath(path).name
    return send_blob(platform.blobs.open(blob.sha256), blob.size_bytes, blob.sha256, label, request.headers.get("range"))


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    "required": ["file"],
                }
            }
        },
    }
}


@router.post("/v1/registry/models/{name}/versions", response_model=ModelVersion, responses=failures(404, 409, 415), openapi_extra=_FORM)
async def publish(name: str, request: Request, caller: Member, platform: Here) -> Any:
    """Add a saved model as the next version: a form with its files as parts named `file`, or with one .tar that holds them."""
    form = await receive_form(request, platform.blobs, platform.settings.max_upload)
    claim = claim_of_form(dict(request.scope["headers"]), caller.project, request.url.path, form)
    return await run_in_threadpool(platform.answers.do, claim, lambda: _add(platform, caller.project, name, form))


def _add(platform: Any, project: str, name: str, form: Received) -> dict[str, Any]:
    """Add the version. What is wrong with its files is said of them, not of where they lie meanwhile."""
    files = {label: blob for _, label, blob in form.files}
    if not files or len(files) != len(form.files):
        raise UsageError("send the files of a saved model, each once: curl -F file=@model/model.json -F file=@model/model.safetensors")
    long = next((label for label in files if len(label.encode()) > _LONGEST_NAME_BYTES), None)
    if long is not None:
        raise UsageError(f"a file is called {long[:80]!r}..., which is longer than {_LONGEST_NAME_BYTES} bytes; give it a shorter name")
    with TemporaryDirectory(dir=platform.cache, prefix="model-") as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        for label, blob in files.items():
            platform.blobs.copy_to(blob.sha256, folder / label)
        only = next(iter(files))
        if len(files) == 1 and only.endswith((".tar", ".tar.gz", ".tgz")):
            folder = _unpack(folder / only, Path(temporary) / "unpacked", platform.settings.max_upload)
        try:
            return ModelVersion(**_version(platform.registry.add(project, name, folder, card={"uploaded": True}))).model_dump()
        except (NotFound, DataError) as error:
            raise DataError(str(error).replace(f"{folder}/", "").replace(str(folder), "what was uploaded")) from None


def _unpack(archive: Path, folder: Path, limit_bytes: int) -> Path:
    """The files of an archive. Nothing but plain files inside it is taken, and no more than the limit."""
    folder.mkdir()
    size = 0
    try:
        with tarfile.open(archive) as packed:
            for count, member in enumerate(packed):
                size += member.size
                if count > _MAX_FILES or size > limit_bytes:
                    raise UsageError(f"the archive holds more than {_MAX_FILES} files or {limit_bytes:,} bytes; a saved model is smaller")
                if not (member.isfile() or member.isdir()):
                    raise UsageError(
                        f"the archive holds {member.name[:200]!r}, which is no plain file; pack the saved model's folder again"
                    )
                packed.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        said = str(error).replace(f"{folder.parent}/", "")
        raise UsageError(f"the archive cannot be unpacked ({said}); pack the saved model's folder: tar -cf model.tar -C model .") from None
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


@router.put("/v1/registry/models/{name}/aliases/{alias}", response_model=Alias, responses=failures(404, 415))
def set_alias(name: str, alias: str, asked: PointTo, caller: Member, platform: Here) -> Any:
    """Point an alias at a version, at once."""
    version = platform.registry.set_alias(caller.project, name, alias, asked.version)
    return {"model": name, "alias": alias, "version": version.number}


@router.delete("/v1/registry/models/{name}/aliases/{alias}", response_model=Deleted, responses=failures(404))
def remove_alias(name: str, alias: str, caller: Member, platform: Here) -> Any:
    """Take an alias away. The version stays."""
    platform.registry.delete_alias(caller.project, name, alias)
    return {"id": alias, "object": "registry.alias"}


def _find(platform: Any, project: str, name: str, ref: str) -> Version:
    found: Version = platform.registry.version(project, name, None if ref == "newest" else ref)
    return found


def _model(model: RegisteredModel) -> dict[str, Any]:
    return {"id": model.id, "name": model.name, "newest": model.newest, "aliases": model.aliases, "created_at": int(model.created)}


def _version(version: Version) -> dict[str, Any]:
    return {
        "id": version.id,
        "model": version.model,
        "version": version.number,
        "aliases": list(version.aliases),
        "files": {path: {"sha256": blob.sha256, "bytes": blob.size_bytes} for path, blob in version.files.items()},
        "bytes": version.bytes,
        "signature": version.signature,
        "card": version.card,
        "lineage": version.lineage,
        "created_at": int(version.created),
    }
