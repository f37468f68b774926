"""A service in a process of its own, for the length of a command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from aimass.core.errors import Unavailable

_USUAL_PORT = 8321
_STOP_S = 30.0
_LOG = "up.log"
_TAKEN = "cannot be listened on"
_STARTED = '{"url"'


@dataclass(frozen=True, kw_only=True)
class Background:
    """Where the service answers.

    Args:
        url: its address.
        key: the admin key, which a home has on its first start alone.
        process: the service's own.
    """

    url: str
    key: str
    process: subprocess.Popen[str]


@contextmanager
def service_in(home: Path) -> Iterator[Background]:
    """Start a service on a new home, and end it and all that it started with the block.

    Raises:
        Unavailable: it ended before it was ready; the message has its last words.
    """
    before = signal.signal(signal.SIGTERM, _leave)  # so that what stands in `finally` is done
    processes: list[subprocess.Popen[str]] = []
    try:
        started = _start(home, _port(), processes)
        if not started and _TAKEN in _said(home):  # another was faster to take the port
            started = _start(home, 0, processes)
        if not started:
            raise Unavailable(f"the service did not start: {_said(home)}")
        yield Background(url=started["url"], key=started["key"], process=processes[-1])
    finally:
        for process in processes:
            _end(process)
        signal.signal(signal.SIGTERM, before)


def _said(home: Path) -> str:
    """The last words of a service that ended."""
    return (home / _LOG).read_text(encoding="utf-8", errors="replace").strip()[-500:]


def _start(home: Path, port: int, processes: list[subprocess.Popen[str]]) -> dict[str, str]:
    """Start a service as one of `processes`; what it says when it answers, and nothing where it ended before."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", "from aimass.cli import main; main()", "up", "--json", "--stop-jobs", "--port", str(port)]
    with (home / _LOG).open("wb") as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, "AIMASS_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the one who watches; the service is asked to leave afterwards
        )
    processes.append(process)
    assert process.stdout is not None
    line = process.stdout.readline()
    if line.startswith(_STARTED):
        started: dict[str, str] = json.loads(line)
        return started
    process.wait()  # an error is JSON too, and is said in words after that
    return {}


def _leave(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _port() -> int:
    """The usual one, or any where that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _USUAL_PORT))
        except OSError:
            return 0
    return _USUAL_PORT


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
