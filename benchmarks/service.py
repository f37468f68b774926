"""The service beside its own floor: start to ready, memory at rest, and an upload of 1 GB against `cp`.

    python service.py [--quick] [--json]

Ready is when the first request over HTTP is answered. `cp` is followed by `sync` of the file, since an upload that was
acknowledged is on disk too.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from _measure import arguments, interleave, median, show

_MB = 1024 * 1024
_REST_S = 3.0
_LIMIT_S = 300.0
_BOUNDARY = "a-boundary-that-no-file-has"


class Service:
    """`aimass up` in a home of its own."""

    def __init__(self, home: Path) -> None:
        start = time.perf_counter()
        command = [sys.executable, "-c", "from aimass.cli import main; main()", "up", "--json", "--port", "0"]
        self.process = subprocess.Popen(command, env={**os.environ, "AIMASS_HOME": str(home)}, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the service ended before it was ready")
        started = json.loads(line)
        self.key, self.address = str(started.get("key")), str(started["url"]).removeprefix("http://")
        with self.connect() as connection:
            connection.request("GET", "/health/ready")
            connection.getresponse().read()
        self.ready_s = time.perf_counter() - start

    @contextmanager
    def connect(self) -> Iterator[http.client.HTTPConnection]:
        """A connection to it."""
        connection = http.client.HTTPConnection(self.address, timeout=_LIMIT_S)
        try:
            yield connection
        finally:
            connection.close()

    def rest(self) -> tuple[float, bool]:
        """MB of memory that only it holds once it has nothing to do, and whether it has loaded torch."""
        time.sleep(_REST_S)
        process = psutil.Process(self.process.pid)
        has_torch = any(re.search(r"/torch/lib/", found.path) for found in process.memory_maps())
        return process.memory_info().rss / _MB, has_torch

    def upload(self, path: Path) -> float:
        """Seconds from the first byte of a file to the answer that it is kept."""
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\ndataset\r\n'
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
        ).encode()
        tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
        length = len(head) + path.stat().st_size + len(tail)
        start = time.perf_counter()
        with self.connect() as connection, path.open("rb") as file:
            connection.blocksize = _MB
            connection.putrequest("POST", "/v1/files")
            connection.putheader("Authorization", f"Bearer {self.key}")
            connection.putheader("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
            connection.putheader("Content-Length", str(length))
            connection.endheaders(head)
            assert connection.sock is not None
            connection.sock.sendfile(file)
            connection.send(tail)
            answer = connection.getresponse()
            body = json.loads(answer.read())
        if answer.status not in (200, 201):
            raise RuntimeError(f"the upload was refused: {body}")
        elapsed_s = time.perf_counter() - start
        self._forget(body["id"])
        return elapsed_s

    def _forget(self, name: str) -> None:
        with self.connect() as connection:
            connection.request("DELETE", f"/v1/files/{name}", headers={"Authorization": f"Bearer {self.key}"})
            connection.getresponse().read()

    def close(self) -> None:
        """Let it leave."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()


def start_once() -> float:
    """Seconds from the command to the first answer, on a home that has nothing in it."""
    with tempfile.TemporaryDirectory() as home:
        service = Service(Path(home))
        service.close()
        return service.ready_s


def write_file(path: Path, size_bytes: int, salt: int) -> None:
    """A file of bytes that no other call writes: a store by content keeps the same bytes only once."""
    block = os.urandom(_MB)
    with path.open("wb") as file:
        file.write(salt.to_bytes(8, "little"))
        for _ in range(size_bytes // _MB):
            file.write(block)


def copy(path: Path, to: Path) -> float:
    """Seconds of `cp`, until the copy is on disk."""
    start = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", str(path), str(to)], check=True)
    subprocess.run(["sync", str(to)], check=True)
    elapsed_s = time.perf_counter() - start
    to.unlink()
    return elapsed_s


def measure(quick: bool) -> dict[str, Any]:
    """Every figure, with all its samples."""
    size_bytes = (64 if quick else 1024) * _MB
    ready = [start_once() for _ in range(2 if quick else 7)]
    with tempfile.TemporaryDirectory(dir=Path.home()) as place:
        folder = Path(place)
        service = Service(folder / "home")
        try:
            rest_mb, has_torch = service.rest()
            salt = iter(range(1000))

            def upload() -> float:
                write_file(folder / "file.csv", size_bytes, next(salt))
                return service.upload(folder / "file.csv")

            def plain() -> float:
                write_file(folder / "file.csv", size_bytes, next(salt))
                return copy(folder / "file.csv", folder / "copy.csv")

            moved = interleave({"upload": upload, "cp": plain}, 2 if quick else 5)
            after_mb = psutil.Process(service.process.pid).memory_info().rss / _MB
        finally:
            service.close()
    return {"ready_s": ready, "rest_mb": rest_mb, "has_torch": has_torch, "after_mb": after_mb, "size_mb": size_bytes // _MB, **moved}


def main() -> None:
    """Measure, and print the table."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    found = measure(options.quick)
    size_mb = found["size_mb"]
    rows = [
        {
            "what": "start to ready",
            "median": f"{median(found['ready_s']):.2f} s",
            "least": f"{min(found['ready_s']):.2f}",
            "most": f"{max(found['ready_s']):.2f}",
        },
        {"what": "memory at rest" + (" (torch is loaded)" if found["has_torch"] else ", no torch"), "median": f"{found['rest_mb']:.0f} MB"},
        {"what": "memory after the uploads", "median": f"{found['after_mb']:.0f} MB"},
        *[
            {
                "what": f"{name} of {size_mb:,} MB",
                "median": f"{median(found[name]):.2f} s",
                "least": f"{min(found[name]):.2f}",
                "most": f"{max(found[name]):.2f}",
                "MB/s": f"{size_mb / median(found[name]):.0f}",
                "× cp": f"{median(found[name]) / median(found['cp']):.2f}",
            }
            for name in ("upload", "cp")
        ],
    ]
    show("service", ["cp includes the sync of its copy."], rows, found, as_json=options.json)


if __name__ == "__main__":
    main()
