"""Files: bytes that a person has uploaded, in OpenAI's shape."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import Connection, Row, delete, select
from starlette.concurrency import run_in_threadpool

from aimass.core.errors import Conflict, NotFound, UsageError
from aimass.core.ids import new_id
from aimass.service.auth import Member
from aimass.service.once import claim_of_form
from aimass.service.shapes import Deleted, Here, ListOf, failures, listing, new_router
from aimass.service.uploads import receive_form
from aimass.store.blobs import Blob
from aimass.store.paging import Page, fetch
from aimass.store.tables import datasets, files

router = new_router("files")
_READ_BYTES = 1 << 20
_PURPOSE_MAX = 64


class File(BaseModel):
    """A file. `filename` is a label; the bytes are kept under their hash."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    sha256: str


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "default": "user_data", "maxLength": _PURPOSE_MAX},
                    },
                }
            }
        },
    }
}


@router.post("/v1/files", response_model=File, responses=failures(415), openapi_extra=_FORM)
async def upload(request: Request, caller: Member, platform: Here) -> Any:
    """Upload a file: a form with the part `file`, and `purpose` if you like."""
    form = await receive_form(request, platform.blobs, platform.settings.max_upload)
    filename, blob = form.file()
    purpose = form.fields.get("purpose", "user_data")
    if not 0 < len(purpose) <= _PURPOSE_MAX or not purpose.isprintable():
        raise UsageError(f"purpose={purpose[:80]!r}: a purpose is a word of up to {_PURPOSE_MAX} characters, such as 'user_data'")
    claim = claim_of_form(dict(request.scope["headers"]), caller.project, request.url.path, form)
    return await run_in_threadpool(platform.answers.do, claim, lambda: _keep(platform, caller.project, filename, purpose, blob))


def _keep(platform: Any, project: str, filename: str, purpose: str, blob: Blob) -> dict[str, Any]:
    row = {
        "id": new_id("file"),
        "project_id": project,
        "filename": filename,
        "purpose": purpose,
        "bytes": blob.size_bytes,
        "sha256": blob.sha256,
        "created": time.time(),
    }
    with platform.database.write() as connection:
        return File(**_shown(connection.execute(files.insert().values(row).returning(files)).one())).model_dump()


@router.get("/v1/files", response_model=ListOf[File], responses=failures())
def list_files(
    caller: Member,
    platform: Here,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=_PURPOSE_MAX)] = None,
) -> Any:
    """The project's files, newest first."""
    wanted = select(files).where(files.c.project_id == caller.project)
    if purpose is not None:
        wanted = wanted.where(files.c.purpose == purpose)
    with platform.database.read() as connection:
        rows, more = fetch(connection, wanted, files.c.id, Page(after=after, limit=limit, order=order))
    return listing(([_shown(row) for row in rows], more))


@router.get("/v1/files/{file_id}", response_model=File, responses=failures(404))
def show(file_id: str, caller: Member, platform: Here) -> Any:
    """One file."""
    with platform.database.read() as connection:
        return _shown(find_file(connection, caller.project, file_id))


@router.delete("/v1/files/{file_id}", response_model=Deleted, responses=failures(404, 409))
def remove(file_id: str, caller: Member, platform: Here) -> Any:
    """Delete a file that no data set is made from. Bytes that others use stay."""
    with platform.database.write() as connection:
        find_file(connection, caller.project, file_id)
        user = connection.execute(select(datasets.c.id).where(datasets.c.file_id == file_id).limit(1)).scalar()
        if user is not None:
            raise Conflict(f"the data set {user} is made from {file_id}; delete it first")
        connection.execute(delete(files).where(files.c.id == file_id))
    return {"id": file_id, "object": "file"}


@router.get(
    "/v1/files/{file_id}/content",
    responses={
        **failures(404, 416),
        200: {"content": {"application/octet-stream": {}}},
        206: {"content": {"application/octet-stream": {}}},
    },
    response_class=StreamingResponse,
)
def content(file_id: str, request: Request, caller: Member, platform: Here) -> Response:
    """The bytes of a file; a part of them where `Range` asks for one."""
    with platform.database.read() as connection:
        row = find_file(connection, caller.project, file_id)
    return send_blob(platform.blobs.open(row.sha256), row.bytes, row.sha256, row.filename, request.headers.get("range"))


def find_file(connection: Connection, project: str, file_id: str) -> Row[Any]:
    """A project's file.

    Raises:
        NotFound: it has none of this id.
    """
    row = connection.execute(select(files).where(files.c.id == file_id, files.c.project_id == project)).one_or_none()
    if row is None:
        raise NotFound(f"there is no file {file_id!r} in this project; GET /v1/files lists those there are")
    return row


def send_blob(stream: BinaryIO, size_bytes: int, sha256: str, filename: str, wanted: str | None) -> Response:
    """Bytes of the store as a download.

    Args:
        stream: where they are read from; it is closed.
        size_bytes: how many there are.
        sha256: their hash, which is the ETag.
        filename: what to call them.
        wanted: the header `Range`.
    """
    from urllib.parse import quote

    start, end = _range(wanted, size_bytes)
    headers = {
        "content-length": str(max(0, end - start)),
        "accept-ranges": "bytes",
        "etag": f'"{sha256}"',
        "content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "x-content-type-options": "nosniff",
    }
    partial = (start, end) != (0, size_bytes)
    if partial:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size_bytes}"
    return StreamingResponse(_pieces(stream, start, end), 206 if partial else 200, headers, "application/octet-stream")


def _range(wanted: str | None, size_bytes: int) -> tuple[int, int]:
    """From where to where; the whole where the header asks for nothing that we know."""
    import re

    from starlette.exceptions import HTTPException

    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (wanted or "").strip())
    if found is None or found[0] == "bytes=-":
        return 0, size_bytes
    start = int(found[1]) if found[1] else max(0, size_bytes - int(found[2]))
    end = min(int(found[2]) + 1, size_bytes) if found[1] and found[2] else size_bytes
    if start >= end:
        raise HTTPException(416, f"the file has {size_bytes:,} bytes; ask for a part of them", {"content-range": f"bytes */{size_bytes}"})
    return start, end


def _pieces(stream: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with stream:
        stream.seek(start)
        left = end - start
        while left > 0 and (piece := stream.read(min(_READ_BYTES, left))):
            left -= len(piece)
            yield piece


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "bytes": row.bytes,
        "created_at": int(row.created),
        "filename": row.filename,
        "purpose": row.purpose,
        "sha256": row.sha256,
    }
