"""A real service in a process of its own, as `aimass up` starts it."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

UP = [sys.executable, "-c", "from aimass.cli import main; main()", "up", "--json"]
_PORTS = itertools.count(os.getpid())


def free_port():
    """A port that nobody listens on, nor will: below those that the system gives to whoever asks for any, and for this worker of the
    tests alone."""
    lowest, most = 10_000, 2_000
    begin = lowest + most * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 10)
    while True:
        port = begin + next(_PORTS) % most
        with socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@dataclass
class Service:
    """What a test holds of it. `key` is the admin key of the home's first start."""

    home: Path
    port: int = field(default_factory=free_port)
    options: tuple = ()
    key: str = ""
    process: subprocess.Popen | None = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self):
        return {"authorization": f"Bearer {self.key}"}

    def start(self):
        """Start it, and wait until it answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "up.stderr").open("ab") as errors:
            self.process = subprocess.Popen(
                [*UP, "--port", str(self.port), *self.options],
                env={**os.environ, "AIMASS_HOME": str(self.home)},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        line = self.process.stdout.readline()
        assert line, f"the service ended: {(self.home / 'up.stderr').read_text()[-3000:]}"
        started = json.loads(line)
        self.key = started.get("key") or self.key
        return self

    def kill(self):
        """kill -9 of the service alone."""
        self.process.kill()
        self.process.wait(timeout=120)
        self.process.stdout.close()

    def stop(self):
        """SIGTERM, and a leave in order."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=120)
        if self.process is not None and not self.process.stdout.closed:
            self.process.stdout.close()


def processes_of(home, module):
    """The processes that run `module` for a home, whoever started them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if module in line and _is_of(process, home):
            found.append(process)
    return found


def _is_of(process, home):
    try:
        return any(str(home) in part for part in process.cmdline()) or process.environ().get("AIMASS_HOME", "").startswith(str(home))
    except psutil.Error:
        return False


def end_drivers(home):
    """End the jobs' processes that a service left running."""
    for process in processes_of(home, "aimass.service.jobs.driver"):
        for child in [*process.children(recursive=True), process]:
            try:
                child.kill()
            except psutil.Error:
                continue


@contextmanager
def running_service(home, *, port=None, options=()):
    """A service that is ended with the block, and whatever it left."""
    service = Service(home=Path(home), port=port or free_port(), options=tuple(options))
    try:
        yield service.start()
    finally:
        service.stop()
        end_drivers(home)


def wait_until(condition, limit_s=240, every_s=0.1):
    """Ask until the answer is truthy, and return it."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(every_s)
    raise AssertionError(f"it did not come about within {limit_s} s")
