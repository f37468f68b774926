"""A form with files in it, sent from the disk piece by piece and never held whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from aimass.client.call import Progress, new_key
from aimass.core.errors import DataError, NotFound

_PIECE = 1 << 20
_AFTER = b"\r\n"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file in a form; its size is fixed when the form is made."""

    path: Path
    name: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form. Its boundary is drawn once, so that sending it again sends the same bytes.

    Args:
        files: each becomes a part named `file`.
        fields: what stands before them.
        progress: told as bytes of the files go; it begins anew when the form is sent again.
    """

    files: tuple[Part, ...]
    fields: Mapping[str, str] = field(default_factory=dict)
    progress: Progress | None = None
    boundary: str = field(default_factory=new_key)

    @classmethod
    def of(
        cls, *paths: str | Path, name: str | None = None, fields: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> Form:
        """A form with the files that are there now.

        Args:
            name: what the service shall call the file; by default its own name.

        Raises:
            NotFound: one is not there.
            DataError: one is a folder, or cannot be read.
        """
        files = []
        for path in (Path(path).expanduser() for path in paths):
            with _opened(path) as file:
                files.append(Part(path=path, name=name or path.name, size_bytes=file.seek(0, 2)))
        return cls(files=tuple(files), fields=fields or {}, progress=progress)

    @property
    def size_bytes(self) -> int:
        """The bytes of the files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def headers(self) -> dict[str, str]:
        """Its type and exact length, so that the service can refuse it before it has come."""
        around = len(self._fields) + sum(len(self._before(file)) + len(_AFTER) for file in self.files) + len(self._end)
        return {"content-type": f"multipart/form-data; boundary={self.boundary}", "content-length": str(around + self.size_bytes)}

    def pieces(self) -> Iterator[bytes]:
        """The bytes of the whole form."""
        gone = 0
        yield self._fields
        for part in self.files:
            yield self._before(part)
            with _opened(part.path) as file:
                for wanted in _portions(part.size_bytes):
                    yield _read(file, wanted, part.path)
                    gone += wanted
                    self._tell(gone)
            yield _AFTER
        yield self._end

    async def pieces_async(self) -> AsyncIterator[bytes]:
        """The same, read in a thread."""
        from anyio.to_thread import run_sync

        gone = 0
        yield self._fields
        for part in self.files:
            yield self._before(part)
            with _opened(part.path) as file:
                for wanted in _portions(part.size_bytes):
                    yield await run_sync(_read, file, wanted, part.path)
                    gone += wanted
                    self._tell(gone)
            yield _AFTER
        yield self._end

    def _tell(self, gone: int) -> None:
        if self.progress is not None:
            self.progress(gone, self.size_bytes)

    @property
    def _fields(self) -> bytes:
        parts = [
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in self.fields.items()
        ]
        return "".join(parts).encode()

    def _before(self, part: Part) -> bytes:
        name = part.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        return f"--{self.boundary}\r\n{head}".encode()

    @property
    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


def _portions(size_bytes: int) -> Iterator[int]:
    """How many bytes to read at a time."""
    for start in range(0, size_bytes, _PIECE):
        yield min(_PIECE, size_bytes - start)


def _read(file: BinaryIO, wanted: int, path: Path) -> bytes:
    piece = file.read(wanted)
    if len(piece) != wanted:
        raise DataError(f"{path} became shorter while it was sent; send it again when nobody writes to it")
    return piece


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"there is no file {str(path)!r}; check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a file that you may read") from None
