"""A file that arrives over the network, and is there when it is whole."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from aimass.client.call import Progress
from aimass.core.errors import storage_errors

if TYPE_CHECKING:
    import httpx


class Arriving:
    """The file while it arrives, beside its place. Left without an error it takes its place; else it is removed.

    Args:
        path: where it will be; an older one is replaced.
        response: whose body it is.
        progress: told with every piece.
    """

    def __init__(self, path: Path, response: httpx.Response, progress: Progress | None) -> None:
        self._path, self._progress = path, progress
        self._beside = path.parent / f".unfinished-{path.name}-{uuid4().hex[:8]}"
        self._gone, self._size_bytes = 0, int(response.headers.get("content-length") or 0)

    def __enter__(self) -> Self:
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._beside.open("wb")
        return self

    def write(self, piece: bytes) -> None:
        """Take in the next bytes."""
        with storage_errors(self._path):
            self._file.write(piece)
        self._gone += len(piece)
        if self._progress is not None:
            self._progress(self._gone, max(self._gone, self._size_bytes))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with storage_errors(self._path):
                self._file.close()
                if error is None:
                    self._beside.replace(self._path)
        finally:
            self._beside.unlink(missing_ok=True)
