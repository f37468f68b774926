"""Blobs in a bucket of an S3-compatible store, through fsspec.

Bytes are spooled to a local file while they are hashed, since their name is known only at the end; the store itself shows an
object only when all of it has arrived.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

from aimass.core.errors import MissingExtra, StorageError, UsageError, storage_errors
from aimass.core.files import home
from aimass.store.folder import UNFINISHED, sweep_abandoned
from aimass.store.upload import Blob

_PART, _PARTS_AT_ONCE = 32 << 20, 2  # what an upload of a large blob holds in memory is their product
_LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BucketPlace:
    """Where blobs lie in a bucket. `aimass.store.blobs.Blobs` says what the methods promise."""

    def __init__(self, bucket: str, prefix: str) -> None:
        if not bucket:
            raise UsageError("the store's URL names no bucket; give s3://bucket/prefix")
        self.root = f"{bucket}/{prefix}" if prefix else bucket
        self._spool = home() / "spool"
        self._files, self._refusals = _connect()

    def __str__(self) -> str:
        return f"s3://{self.root}"

    def unfinished(self) -> Path:
        """A fresh local path for bytes that have no name yet."""
        return self._spool / f"{UNFINISHED}{uuid4().hex}"

    def keep(self, unfinished: Path, blob: Blob) -> None:
        """Upload a finished file under its name. One that is there is written anew: it may be damaged, or due to be swept."""
        with storage_errors(unfinished), self._in_words("kept"):
            self._files.put_file(str(unfinished), self._key(blob.sha256), chunksize=_PART, max_concurrency=_PARTS_AT_ONCE)
            size = self.size(blob.sha256)
        if size != blob.size_bytes:
            self.delete(blob.sha256)
            raise StorageError(f"{self} kept {size} of {blob.size_bytes} bytes of blob {blob.sha256}; try again")

    def size(self, sha256: str) -> int | None:
        """How many bytes a blob has; None where it is not there."""
        with self._in_words("read"):
            try:
                return int(self._files.info(self._key(sha256))["size"])
            except FileNotFoundError:
                return None

    def open(self, sha256: str) -> BinaryIO | None:
        """The bytes of a blob; None where it is not there."""
        with self._in_words("read"):
            try:
                return cast(BinaryIO, self._files.open(self._key(sha256), "rb", cache_type="readahead"))
            except FileNotFoundError:
                return None

    def copy_to(self, sha256: str, path: Path) -> None:
        """A local file with the blob's bytes."""
        with self._in_words("read"):
            self._files.get_file(self._key(sha256), str(path))

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is no error."""
        with self._in_words("changed"):
            self._files.rm_file(self._key(sha256))

    def sweep(self, keep: Container[str], older_than_s: float, since: float = 0.0) -> int:
        """Remove what nobody keeps and what dead processes left. See `Blobs.sweep`."""
        removed, limit = 0, time.time() - older_than_s
        with self._in_words("changed"):
            found: dict[str, dict[str, Any]] = self._files.find(self.root, detail=True)
            for key, about in found.items():
                sha256 = key.rsplit("/", 1)[-1]
                if key != self._key(sha256) or sha256 in keep or not _is_older(about, limit) or _is_older(about, since):
                    continue
                if self._is_still_older(key, limit):
                    self._files.rm_file(key)
                    removed += 1
        sweep_abandoned(self._spool)
        return removed

    def _is_still_older(self, key: str, limit: float) -> bool:
        """Look once more: the list of a large bucket is minutes old, and the same bytes may have been put in since."""
        try:
            return _is_older(self._files.info(key), limit)
        except FileNotFoundError:
            return False

    def _key(self, sha256: str) -> str:
        return f"{self.root}/{sha256[:2]}/{sha256}"

    @contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._refusals as error:
            if isinstance(error, OSError) and error.errno in _LOCAL:
                raise
            advice = "check AWS_ENDPOINT_URL, the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that the bucket is there"
            raise StorageError(f"blobs in {self} cannot be {what} ({error}); {advice}") from error


def _is_older(about: dict[str, Any], limit: float) -> bool:
    return bool(about["LastModified"].timestamp() < limit)


def _connect() -> tuple[Any, tuple[type[Exception], ...]]:
    """The file system of fsspec, and what it raises when the store refuses or is away."""
    try:
        import fsspec
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

        return fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False), (OSError, BotoCoreError, ClientError)
    except ImportError:
        raise MissingExtra("blobs in S3 need the package s3fs; install it: pip install 'aimass[s3]'") from None
