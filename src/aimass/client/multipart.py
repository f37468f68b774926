"""A form with one file in it, sent from the disk piece by piece and never held whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from aimass.client.call import Progress, new_key
from aimass.core.errors import DataError, NotFound

_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form. Its boundary is drawn once, so that sending it again sends the same bytes.

    Args:
        path: the file; its size is fixed when the form is made.
        filename: what the service shall call it.
        fields: what else stands in the form.
        progress: told as bytes of the file go; it begins anew when the form is sent again.
    """

    path: Path
    size_bytes: int
    filename: str
    fields: Mapping[str, str] = field(default_factory=dict)
    progress: Progress | None = None
    boundary: str = field(default_factory=new_key)

    @classmethod
    def of(cls, path: str | Path, *, filename: str | None, fields: Mapping[str, str], progress: Progress | None) -> Form:
        """A form with the file that is at `path` now.

        Raises:
            NotFound: there is none.
            DataError: it is a folder, or cannot be read.
        """
        path = Path(path).expanduser()
        with _opened(path) as file:
            size_bytes = file.seek(0, 2)
        return cls(path=path, size_bytes=size_bytes, filename=filename or path.name, fields=fields, progress=progress)

    @property
    def headers(self) -> dict[str, str]:
        """Its type and exact length, so that the service can refuse it before it has come."""
        length = len(self._before) + self.size_bytes + len(self._after)
        return {"content-type": f"multipart/form-data; boundary={self.boundary}", "content-length": str(length)}

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the whole form."""
        yield self._before
        with _opened(self.path) as file:
            gone = 0
            while gone < self.size_bytes:
                piece = self._next(file, gone)
                yield piece
                gone += len(piece)
                self._tell(gone)
        yield self._after

    async def pieces_async(self) -> AsyncIterator[bytes]:
        """The same, read in a thread."""
        from anyio.to_thread import run_sync

        yield self._before
        with _opened(self.path) as file:
            gone = 0
            while gone < self.size_bytes:
                piece = await run_sync(self._next, file, gone)
                yield piece
                gone += len(piece)
                self._tell(gone)
        yield self._after

    def _next(self, file: BinaryIO, gone: int) -> bytes:
        piece = file.read(min(_PIECE, self.size_bytes - gone))
        if not piece:
            raise DataError(f"{self.path} became shorter while it was sent; send it again when nobody writes to it")
        return piece

    def _tell(self, gone: int) -> None:
        if self.progress is not None:
            self.progress(gone, self.size_bytes)

    @property
    def _before(self) -> bytes:
        parts = [
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in self.fields.items()
        ]
        name = self.filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        return f"{''.join(parts)}--{self.boundary}\r\n{head}".encode()

    @property
    def _after(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode()


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"there is no file {str(path)!r}; check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a file that you may read") from None
