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
    log = home / "up.log"
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", "from aimass.cli import main; main()", "up", "--json", "--stop-jobs", "--port", str(_port())]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, "AIMASS_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the one who watches; the service is asked to leave afterwards
        )
    before = signal.signal(signal.SIGTERM, _leave)  # so that what stands in `finally` is done
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise Unavailable(f"the service did not start: {log.read_text(encoding='utf-8', errors='replace').strip()[-500:]}")
        started = json.loads(line)
        yield Background(url=started["url"], key=started["key"], process=process)
    finally:
        _end(process)
        signal.signal(signal.SIGTERM, before)


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
