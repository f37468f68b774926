"""A service in a process of its own, started by `aimass.service.serve`, with settings of the test's choice.

from served import service, model_folder, client_of  # noqa: F401  fixtures are used by naming them
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

_PROGRAM = """
import json, sys
from aimass.core.errors import AimassError
from aimass.service.serve import serve
from aimass.service.settings import read_settings

def announce(started):
    print(json.dumps({"url": started.url, "key": started.admin_key, "pid": started.pid}), flush=True)

try:
    serve(read_settings(json.loads(sys.argv[1])), announce)
except AimassError as error:
    print(json.dumps({"error": str(error)}), flush=True)
    sys.exit(error.exit_code)
"""


@dataclass
class Service:
    """A running service."""

    home: Path
    url: str
    key: str | None
    process: subprocess.Popen

    @property
    def headers(self):
        return {"authorization": f"Bearer {self.key}"}

    def client(self, key=None, **options):
        """An HTTP client with a key, the first admin's if none is given."""
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {key or self.key}"}, timeout=60, **options)

    def new_client(self, role="member", project=None, **options):
        """A client with a fresh key, in a fresh project if none is named."""
        with self.client() as admin:
            if project is None:
                project = admin.post("/v1/projects", json={"name": f"p{uuid4().hex[:10]}"}).raise_for_status().json()["id"]
            made = admin.post("/v1/keys", json={"name": "test", "role": role, "project": project}).raise_for_status().json()
        client = self.client(made["key"], **options)
        client.project, client.key_id, client.key = project, made["id"], made["key"]
        return client

    def stop(self, number=signal.SIGTERM):
        """End it in order, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=120)
        self.process.stdout.close()
        return code


def start(home, **settings):
    """Start a service and wait until it answers; one that cannot start gives its sentence as an AssertionError."""
    flags = {"port": 0, "home": str(home), "memory": "2GB", **settings}
    Path(home).mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIMASS_")}
    with (Path(home) / "stderr").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _PROGRAM, json.dumps(flags)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            cwd=home,
        )
    line = process.stdout.readline()
    told = json.loads(line) if line else {"error": (Path(home) / "stderr").read_text()[-2000:]}
    if "error" in told:
        process.wait(timeout=120)
        process.stdout.close()
        raise AssertionError(told["error"])
    return Service(Path(home), told["url"], told["key"], process)


@contextmanager
def running(home, **settings):
    """A service for the length of a block."""
    found = start(home, **settings)
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """One service for all tests of a process. Tests make projects of their own, and leave the default one's money alone."""
    with running(tmp_path_factory.mktemp("service") / "home") as found:
        yield found


@pytest.fixture(scope="session")
def admin(service):
    """A client with the first admin's key."""
    with service.client() as client:
        yield client


@pytest.fixture
def member(service):
    """A client with a member's key, in a project of its own."""
    with service.new_client() as client:
        yield client


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A saved model of the iris data."""
    import aimass

    folder = tmp_path_factory.mktemp("model")
    os.environ["AIMASS_HOME"] = str(folder / "home")
    aimass.train("iris", epochs=2, workers=0).model.save(folder / "iris")
    return folder / "iris"


def publish(client, folder, name="iris"):
    """Upload a saved model; the answer is the version."""
    parts = [("file", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
    return client.post(f"/v1/registry/models/{name}/versions", files=parts).raise_for_status().json()


ROW = {"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4, "petal width (cm)": 0.2}
"""A flower of the iris data."""

CSV = b"age,city,left\n" + b"".join(b"%d,%s,%s\n" % (20 + n % 40, [b"bonn", b"kiel"][n % 2], [b"no", b"yes"][n % 3 > 1]) for n in range(60))
"""Rows with a number, a category and a target called `left`."""


def upload(client, content=CSV, filename="people.csv", **fields):
    """Upload a file; the answer is its object."""
    return client.post("/v1/files", files={"file": (filename, content)}, data=fields).raise_for_status().json()


def error_of(answer, status):
    """The error of an answer, which has the API's shape and a request's id."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    error = answer.json()["error"]
    if answer.url.path.startswith("/v2"):  # the Open Inference Protocol has a sentence there
        assert isinstance(error, str)
        assert answer.headers["x-request-id"]
        return {"message": error, "code": answer.json()["code"]}
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return error


def get(url, **options):
    """Ask without a client's key, and with time for the answer."""
    return httpx.get(url, timeout=60, **options)


def until(ask, wanted, limit_s=120):
    """Ask again and again until the answer is the one wanted; whether it came."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if ask() == wanted:
            return True
        time.sleep(0.05)
    return False
