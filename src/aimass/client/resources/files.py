"""`client.files`: files that were uploaded."""

from __future__ import annotations

from pathlib import Path

from aimass.client.answers import File, answer_of, entry_of, nothing
from aimass.client.call import Call, Listing, Progress, Request, get, new_key, part, remove
from aimass.client.multipart import Form
from aimass.client.operation import Awaiting, Blocking, listing, operation

_LONG_S = 3600.0


class FileCalls:
    """Files that were uploaded."""

    @operation
    def upload(
        self, path: str | Path, *, purpose: str = "dataset", name: str | None = None, progress: Progress | None = None
    ) -> Call[File]:
        """Send a file, from the disk as it goes.

        Args:
            path: the file.
            purpose: what it is for.
            name: what it shall be called; by default its own name.
            progress: called with the bytes that have gone, and how many there are.

        Raises:
            NotFound: there is no such file here.
            TooLarge: the service takes no file as large as that.
        """
        form = Form.of(path, name=name, fields={"purpose": purpose}, progress=progress)
        headers = {"idempotency-key": new_key()}
        request = Request(method="POST", path="/v1/files", form=form, headers=headers, limit_s=_LONG_S)
        return Call(request=request, read=answer_of(File))

    @listing
    def list(self, *, purpose: str | None = None, limit: int | None = None, after: str | None = None) -> Listing[File]:
        """The files, the newest first; `limit` of them at most, those after the id `after`."""
        return Listing(request=get("/v1/files", purpose=purpose, after=after), read=entry_of(File), limit=limit)

    @operation
    def get(self, file: str) -> Call[File]:
        """One file's facts."""
        return Call(request=get(f"/v1/files/{part(file)}"), read=answer_of(File))

    @operation
    def read(self, file: str) -> Call[bytes]:
        """What a file holds."""
        return Call(request=get(f"/v1/files/{part(file)}/content"), read=lambda response: response.content)

    @operation
    def download(self, file: str, path: str | Path, *, progress: Progress | None = None) -> Call[Path]:
        """Write what a file holds to `path`, whole or not at all."""
        into = Path(path).expanduser()
        return Call(request=get(f"/v1/files/{part(file)}/content"), read=lambda _: into, into=into, progress=progress)

    @operation
    def delete(self, file: str) -> Call[None]:
        """Take a file away. Data sets and versions that were made of it stay."""
        return Call(request=remove(f"/v1/files/{part(file)}"), read=nothing)


class Files(FileCalls, Blocking):
    """Files that were uploaded."""


class AsyncFiles(FileCalls, Awaiting):
    """Files that were uploaded; every method is awaited."""
