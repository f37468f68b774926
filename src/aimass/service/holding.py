"""One service a home: `HOME/service.lock` is held by the service that lives in it.

The kernel lets go of the lock when its holder ends, however it ends, so that no lock is ever left behind. What stands in the file is
for people alone: which process it is, and where it answers once it does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from aimass.core.errors import Conflict, storage_errors


@contextmanager
def held(home: Path) -> Iterator[Callable[[str], None]]:
    """Hold a home for the length of a block.

    Yields:
        what is to be told the address, for those who come too late.

    Raises:
        Conflict: a service lives in it.
        StorageError: it may not be written.
    """
    path = home / "service.lock"
    with storage_errors(path):
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise Conflict(_taken(path)) from None
        _write(path, descriptor, None)
        yield lambda url: _write(path, descriptor, url)
    finally:
        os.close(descriptor)


def _write(path: Path, descriptor: int, url: str | None) -> None:
    with storage_errors(path):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "url": url}).encode(), 0)


def _taken(path: Path) -> str:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        url, pid = known["url"], f" (pid {known['pid']})"
    except (OSError, ValueError, KeyError, TypeError):  # its holder is writing just now
        url, pid = None, ""
    how = f"answers at {url}" if url else "is starting"
    return f"a service of {path.parent} {how}{pid}; stop it, or give another home: aimass up --home FOLDER, or AIMASS_HOME"
