"""A Prediction Engine as a process: started, waited for, ended, and never left behind.

The engine's standard input is a pipe that we hold. When we end, in whatever way, the pipe closes and the engine leaves. It writes a
line to its standard output when it listens; its standard error goes to a file.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from aimass.core.errors import Unavailable, storage_errors
from aimass.serving.link import EngineLink

START_LIMIT_S = 180.0
_LONGEST_SOCKET_PATH = 107
_LEAVE_LIMIT_S = 1.0
_LOG_BYTES_KEPT = 1 << 20


class EngineProcess:
    """One engine's process and the link to it.

    Args:
        name: of the engine, for its log.
        home: the folder that its log lies in.
        threads: computing threads of torch.
    """

    def __init__(self, name: str, home: Path, threads: int) -> None:
        self._log = home / "engines" / f"{name}.log"
        with storage_errors(self._log):
            self._log.parent.mkdir(parents=True, exist_ok=True)
            keep = "ab" if not self._log.exists() or self._log.stat().st_size < _LOG_BYTES_KEPT else "wb"
            log = self._log.open(keep)
        self._socket, self._folder = _place(self._log.parent)
        command = [sys.executable, "-m", "aimass.serving.engine", "--socket", str(self._socket), "--threads", str(threads)]
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        with log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=os.environ | one, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def ready(self) -> EngineLink:
        """Wait until it listens, and connect.

        Raises:
            Unavailable: it ended first, or took too long; the message has the last of what it said.
        """
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await self._first_line()
                return await EngineLink.open(self._socket)
        except TimeoutError:
            raise Unavailable(f"an engine did not start within {START_LIMIT_S:.0f} s; see {self._log}") from None
        except (EOFError, OSError):
            raise Unavailable(f"an engine ended while it started: {self._last_words()}; see {self._log}") from None

    async def _first_line(self) -> None:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        assert self._process.stdout is not None
        number = self._process.stdout.fileno()
        loop.add_reader(number, arrived.set)
        try:
            await arrived.wait()
        finally:
            loop.remove_reader(number)
        if not os.read(number, 4096):
            raise EOFError

    def _last_words(self) -> str:
        lines = self._log.read_bytes()[-2000:].decode(errors="replace").strip().splitlines() if self._log.exists() else []
        return lines[-1] if lines else f"exit code {self._process.poll()}"

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def terminate(self) -> None:
        """SIGTERM: it answers what it has, and leaves."""
        self._process.terminate()

    async def end(self) -> int:
        """Wait until it has left, kill it if it does not, and collect it; its exit code."""
        try:
            async with asyncio.timeout(_LEAVE_LIMIT_S):
                while self._process.poll() is None:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            self._process.kill()
        code = await asyncio.to_thread(self._process.wait)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._socket.unlink(missing_ok=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        return code


def _place(folder: Path) -> tuple[Path, Path | None]:
    """Where an engine listens: in our folder, or where that path is too long for a socket, in a temporary one, which is given too."""
    if len(os.fsencode(folder)) <= _LONGEST_SOCKET_PATH - 30:
        _sweep(folder)
        return folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock", None
    apart = Path(tempfile.mkdtemp(prefix="aimass-engine-"))
    return apart / "engine.sock", apart


def _sweep(folder: Path) -> None:
    """Remove the sockets of services that were killed."""
    for left in folder.glob("*-*.sock"):
        if not psutil.pid_exists(int(left.name.partition("-")[0])):
            left.unlink(missing_ok=True)
