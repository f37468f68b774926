"""Large forms, read as they arrive: the file goes to the store, the fields are kept, nothing is spooled.

The event loop gathers chunks of about a megabyte; a thread parses, hashes and writes one while the next is on its way.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

from aimass.core.errors import TooLarge, UsageError
from aimass.store.blobs import Blob, Blobs

if TYPE_CHECKING:
    from starlette.requests import Request

    from aimass.store.blobs import Upload

_CHUNK_BYTES = 1 << 20
_FIELDS_BYTES = 64 * 1024
_MAX_PARTS = 100


@dataclass(frozen=True)
class Received:
    """A form that has arrived whole: its fields, and its files by the name of their part, in order."""

    fields: dict[str, str]
    files: list[tuple[str, str, Blob]]  # (name of the part, label, what the store holds)

    def file(self, name: str = "file") -> tuple[str, Blob]:
        """The one file of the form, with its label.

        Raises:
            UsageError: there is none, or more than one.
        """
        found = [(label, blob) for part, label, blob in self.files if part == name]
        if len(found) != 1:
            raise UsageError(f"the form has {len(found)} files named {name!r}; send one: curl -F {name}=@data.csv -F purpose=user_data")
        return found[0]


async def receive_form(request: Request, blobs: Blobs, limit_bytes: int) -> Received:
    """Read the body of a request that is a form.

    Args:
        request: its body must not have been read.
        blobs: where its files go.
        limit_bytes: what the files may have together.

    Raises:
        HTTPException: 415, it is no form.
        UsageError: the form is damaged, or ends early.
        TooLarge: its files or its fields are.
        StorageError: the store could not keep it.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise HTTPException(415, "this takes a form with a file: send multipart/form-data, as `curl -F file=@data.csv` does")
    form = _Form(boundary, blobs, limit_bytes)
    try:
        async for chunk in _ahead(_chunks(request)):
            await asyncio.to_thread(form.feed, chunk)
        return await asyncio.to_thread(form.finish)
    finally:
        await asyncio.to_thread(form.discard)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of about a megabyte."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size >= _CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


async def _ahead(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks, the next one being gathered while the caller works on the last."""
    coming = asyncio.ensure_future(anext(chunks, None))
    try:
        while (chunk := await coming) is not None:
            coming = asyncio.ensure_future(anext(chunks, None))
            yield chunk
    finally:
        coming.cancel()


@dataclass
class _Part:
    name: str = ""
    label: str | None = None
    value: bytearray = field(default_factory=bytearray)
    upload: Upload | None = None


class _Form:
    """The push parser's side: where each part's bytes go."""

    def __init__(self, boundary: bytes, blobs: Blobs, limit_bytes: int) -> None:
        self._blobs, self._limit_bytes, self._left_bytes = blobs, limit_bytes, limit_bytes
        self._fields: dict[str, str] = {}
        self._files: list[tuple[str, str, Blob]] = []
        self._fields_bytes = self._parts = 0
        self._part = _Part()
        self._header, self._value = bytearray(), bytearray()
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_end,
                "on_end": self._finished,
            },
        )

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise UsageError(f"the form is damaged ({error}); send it again, as `curl -F file=@data.csv` does") from None

    def finish(self) -> Received:
        if not self._ended:
            raise UsageError("the form ended early; send it again, whole")
        return Received(self._fields, self._files)

    def discard(self) -> None:
        """Leave nothing half-written behind."""
        if self._part.upload is not None:
            self._part.upload.discard()
            self._part.upload = None

    def _begin(self) -> None:
        self._part = _Part()
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise TooLarge(f"the form has more than {_MAX_PARTS} parts; send fewer")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._part.name = options.get(b"name", b"").decode(errors="replace")
            if b"filename" in options:
                self._part.label = label(options[b"filename"].decode(errors="replace"))
        self._header, self._value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        if self._part.label is not None:
            self._part.upload = self._blobs.receive()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.upload is None:
            self._fields_bytes += end - start
            if self._fields_bytes > _FIELDS_BYTES:
                raise TooLarge(f"the form's fields have more than {_FIELDS_BYTES:,} bytes; send what is large as a file")
            self._part.value += data[start:end]
            return
        self._left_bytes -= end - start
        if self._left_bytes < 0:
            raise TooLarge(f"the file has more than the {self._limit_bytes:,} bytes that are taken in; send less, or raise max_upload")
        self._part.upload.write(data[start:end])

    def _end(self) -> None:
        part = self._part
        if part.upload is None:
            self._fields[part.name] = part.value.decode(errors="replace")
        else:
            self._files.append((part.name, part.label or "", part.upload.commit()))
            part.upload = None

    def _finished(self) -> None:
        self._ended = True


def label(filename: str) -> str:
    """What a file is called in lists. It names nothing on disk: folders and control characters are dropped.

    >>> label("../../etc/passwd"), label("sales.csv")
    ('passwd', 'sales.csv')
    >>> label("..")
    'unnamed'
    """
    last = re.split(r"[/\\]", filename)[-1]
    named = re.sub(r"[\x00-\x1f\x7f]", "", last).strip()[:255]
    return "unnamed" if named in ("", ".", "..") else named
