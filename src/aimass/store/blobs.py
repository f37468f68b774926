"""Bytes under their SHA-256, in a folder or in a bucket of an S3-compatible store. A blob is there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Container, Iterable
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from aimass.core.errors import NotFound, StorageError, UsageError, storage_errors
from aimass.store.folder import FolderPlace
from aimass.store.upload import Blob, Upload

__all__ = ["Blob", "Blobs", "Upload"]

_AT_ONCE = 1 << 20
_NAME = re.compile(r"[0-9a-f]{64}")


class Place(Protocol):
    """Where blobs lie. Names are checked before they come here."""

    def unfinished(self) -> Path: ...
    def keep(self, unfinished: Path, blob: Blob) -> None: ...
    def size(self, sha256: str) -> int | None: ...
    def open(self, sha256: str) -> BinaryIO | None: ...
    def copy_to(self, sha256: str, path: Path) -> None: ...
    def delete(self, sha256: str) -> None: ...
    def sweep(self, keep: Container[str], older_than_s: float, since: float = 0.0) -> int: ...


class Blobs:
    """The store of bytes. Safe to use from several threads and processes.

    Args:
        url: a folder (`/path` or `file:///path`), or `s3://bucket/prefix`, whose endpoint and keys come from the usual variables
            (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_DEFAULT_REGION`).

    Raises:
        UsageError: the URL is none of these.
        MissingExtra: the packages for S3 are not installed.
        StorageError: the folder cannot be written.

    >>> import tempfile
    >>> blobs = Blobs(tempfile.mkdtemp())
    >>> blob = blobs.put([b"hello ", b"world"])
    >>> with blobs.open(blob.sha256) as stream:
    ...     blob.size_bytes, stream.read()
    (11, b'hello world')
    """

    def __init__(self, url: str) -> None:
        self._place = _place(url)

    def put(self, chunks: Iterable[bytes], *, limit_bytes: int | None = None) -> Blob:
        """Keep what the chunks hold together.

        Raises:
            TooLarge: there is more than the limit.
            StorageError: the disk is full or refuses. Nothing is left of it.
        """
        with self.receive(limit_bytes=limit_bytes) as upload:
            for chunk in chunks:
                upload.write(chunk)
            return upload.commit()

    def put_file(self, path: Path) -> Blob:
        """Keep a copy of a file.

        Raises:
            NotFound: it is not there.
            StorageError: it cannot be read, or not be kept.
        """
        try:
            file = path.open("rb")
        except (FileNotFoundError, IsADirectoryError):
            raise NotFound(f"{path} is no file; give one that is there") from None
        except OSError as error:
            raise StorageError(f"{path} cannot be read ({error.strerror}); check who may read it") from error
        with file:
            return self.put(iter(lambda: file.read(_AT_ONCE), b""))

    def receive(self, *, limit_bytes: int | None = None) -> Upload:
        """Start taking in bytes that come in pieces, such as the body of a request: `write` each, then `commit`."""
        return Upload(self._place.unfinished(), self._place.keep, limit_bytes)

    def open(self, sha256: str) -> BinaryIO:
        """A stream of a blob's bytes, which can seek.

        Raises:
            NotFound: it is not there.
        """
        found = self._place.open(_checked(sha256))
        if found is None:
            raise self._missing(sha256)
        return found

    def size(self, sha256: str) -> int:
        """How many bytes a blob has.

        Raises:
            NotFound: it is not there.
        """
        found = self._place.size(_checked(sha256))
        if found is None:
            raise self._missing(sha256)
        return found

    def exists(self, sha256: str) -> bool:
        """Whether the blob is there."""
        return self._place.size(_checked(sha256)) is not None

    def copy_to(self, sha256: str, path: Path) -> None:
        """Give a blob a file of its own under `path`, whole; one that is there is replaced.

        On the disk of the store it is a second name of the same bytes, so it must not be written to.

        Raises:
            NotFound: the blob is not there.
            StorageError: the disk is full or refuses.
        """
        size = self.size(sha256)
        unfinished = path.parent / f".unfinished-{path.name}-{uuid4().hex[:8]}"
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._place.copy_to(sha256, unfinished)
                if unfinished.stat().st_size != size:
                    raise StorageError(f"the copy of blob {sha256} in {path} is not whole; check the disk and try again")
                os.replace(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)

    def check(self, sha256: str) -> Blob:
        """Read a blob and see that it is what its name says.

        Raises:
            NotFound: it is not there.
            StorageError: its bytes have changed; the message names it.
        """
        found, size = hashlib.sha256(), 0
        with self.open(sha256) as file:
            while chunk := file.read(_AT_ONCE):
                found.update(chunk)
                size += len(chunk)
        if found.hexdigest() != sha256:
            raise self.damaged(sha256)
        return Blob(sha256, size)

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is no error."""
        self._place.delete(_checked(sha256))

    def sweep(self, keep: Container[str], older_than_s: float, since: float = 0.0) -> int:
        """Remove the blobs that nobody keeps, and what killed processes left unfinished.

        Args:
            keep: the hashes that are in use.
            older_than_s: younger ones stay: their owner may be about to write down that it keeps them.
            since: what was put in before this Unix time stays too.

        Returns:
            how many blobs went.
        """
        return self._place.sweep(keep, older_than_s, since)

    def damaged(self, sha256: str) -> StorageError:
        """What to say of a blob whose bytes are not what its name says."""
        return StorageError(f"blob {sha256} in {self._place} is damaged: its bytes have another hash; put the file in again, or restore it")

    def _missing(self, sha256: str) -> NotFound:
        return NotFound(f"there is no blob {sha256} in {self._place}; it was deleted, or the store is another one than before")


def _checked(sha256: str) -> str:
    if not _NAME.fullmatch(sha256):
        raise NotFound(f"{sha256[:80]!r} names no blob; a blob is named by its SHA-256, 64 letters of 0-9a-f")
    return sha256


def _place(url: str) -> Place:
    parts = urlsplit(url)
    if parts.scheme == "s3":
        from aimass.store.bucket import BucketPlace

        return BucketPlace(parts.netloc, parts.path.strip("/"))
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FolderPlace(Path(unquote(parts.path)))
    if "://" in url or not url:
        raise UsageError(f"{url!r} is no place for blobs; give a folder, file:///path, or s3://bucket/prefix")
    return FolderPlace(Path(url).expanduser())
