"""What does each part of a request's way cost? CPU time of all processes, one addition after the other.

A raw ASGI callable on uvicorn (uvloop, httptools) takes one JSON row of 64 numbers and hands it over a Unix socket to a second process,
which answers it in JSON. No model runs. Each level adds one thing to the one before; wrk drives all of them in turns, 32 connections.

    python experiments/request_path.py [--quick] [--json]
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from _measure import arguments, die_with_parent, interleave, median, show

LEVELS = ("asgi", "socket", "json", "encoder", "key", "budget", "log")
ADDS = {
    "asgi": "uvicorn, uvloop, httptools, a raw ASGI callable",
    "socket": "the hop to a second process, frames of a tick together",
    "json": "decoding the row and encoding the answer there",
    "encoder": "the scalar encoder, 64 columns",
    "key": "sha256 of the key, compare_digest",
    "budget": "a slice of the budget",
    "log": "a checksummed record in an append-only file",
}
WANTED_US = 80
KEY = "am_" + "0" * 26 + "_" + "s" * 43
HEAD = struct.Struct("<II")  # length of the body, number of the request


class Frames(asyncio.Protocol):
    """Frames in both directions; what one tick of the loop has to say is written at once."""

    def __init__(self, arrived: Callable[[Frames, int, bytes], None]) -> None:
        self._arrived, self._rest, self._out = arrived, b"", list[bytes]()
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data, at = self._rest + data if self._rest else data, 0
        while len(data) - at >= HEAD.size:
            length, number = HEAD.unpack_from(data, at)
            if len(data) - at - HEAD.size < length:
                break
            self._arrived(self, number, data[at + HEAD.size : at + HEAD.size + length])
            at += HEAD.size + length
        self._rest = data[at:]

    def say(self, number: int, body: bytes) -> None:
        """Send a frame with the others of this tick."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += (HEAD.pack(len(body), number), body)

    def _flush(self) -> None:
        self._transport.writelines(self._out)
        self._out = []


class Instances(msgspec.Struct):
    """The body of a request."""

    instances: list[dict[str, Any]]


async def engine(path: str, level: str) -> None:
    """The second process: answers frames, with or without a look into them."""
    decode, encode = msgspec.json.Decoder(Instances).decode, msgspec.json.Encoder().encode
    encode_row = _encoder().encode_row if LEVELS.index(level) >= LEVELS.index("encoder") else None
    fixed = encode(_answer())

    def arrived(connection: Frames, number: int, body: bytes) -> None:
        if level == "socket":
            connection.say(number, fixed)
            return
        rows = decode(body).instances
        if encode_row is not None:
            for row in rows:
                encode_row(row)
        connection.say(number, encode(_answer()))

    server = await asyncio.get_running_loop().create_unix_server(lambda: Frames(arrived), path)
    await server.serve_forever()


class App:
    """The first process. What `level` does not reach is left out."""

    def __init__(self, level: str, path: str) -> None:
        at = LEVELS.index(level)
        self._hops, self._checks, self._spends, self._writes = at >= 1, at >= 4, at >= 5, at >= 6
        self._path, self._engine, self._number = path, None, 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._keys = {KEY[3:29]: hashlib.sha256(KEY.encode()).digest()}
        self._slices = {"proj": 1 << 60}
        self._log = os.open(path + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._record = msgspec.msgpack.Encoder().encode
        self._fixed = msgspec.json.encode(_answer())

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        if self._checks:
            key = headers[b"authorization"][7:].decode()
            assert hmac.compare_digest(hashlib.sha256(key.encode()).digest(), self._keys[key[3:29]])
        if self._spends:
            assert self._slices["proj"] >= 100
        body = (await receive())["body"]
        answer = await self._ask(body) if self._hops else self._fixed
        if self._spends:
            self._slices["proj"] -= 100
        if self._writes:
            fields = (self._number, f"req-{self._number}", time.time(), "proj", "key", "prediction", "model", 1, 1, "row", 40)
            payload = self._record(fields)
            os.write(self._log, HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
        length = b"%d" % len(answer)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": answer})

    async def _ask(self, body: bytes) -> bytes:
        if self._engine is None:
            loop = asyncio.get_running_loop()
            _, self._engine = await loop.create_unix_connection(lambda: Frames(self._arrived), self._path)
        self._number += 1
        future = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        self._engine.say(self._number, body)
        return await future

    def _arrived(self, _: Frames, number: int, body: bytes) -> None:
        future = self._waiting.pop(number)
        if not future.done():
            future.set_result(body)


def _answer() -> dict[str, Any]:
    shares = {str(digit): 0.1234567890123456 for digit in range(10)}
    return {
        "predictions": [{"prediction": "3", "probability": 0.1234567890123456, "probabilities": shares}],
        "model": "digits",
        "version": 1,
    }


def _encoder() -> Any:
    from aimass.data import load

    return load("digits").encoder


def _row() -> dict[str, float]:
    return {name: float(place % 17) for place, name in enumerate(_encoder().features)}


class Contestant:
    """Both processes of one level, waiting to be driven."""

    def __init__(self, level: str, folder: str) -> None:
        self.level, self._processes = level, list[subprocess.Popen[bytes]]()
        path = f"{folder}/{level}.sock"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        if level != "asgi":
            self._start("--engine", path, level)
            _until(lambda: os.path.exists(path))
        self._start("--app", path, level, str(self.port))
        _until(lambda: _answers(self.port))

    def _start(self, *words: str) -> None:
        self._processes.append(subprocess.Popen([sys.executable, __file__, *words]))

    def sample(self, script: str, connections: int, seconds: float) -> float:
        """µs of CPU a request, user and system, of both processes."""
        before = self._cpu_s()
        requests = drive(self.port, script, connections, seconds)
        return (self._cpu_s() - before) / requests * 1e6

    def _cpu_s(self) -> float:
        return sum(sum(psutil.Process(process.pid).cpu_times()[:2]) for process in self._processes)

    def close(self) -> None:
        """End both."""
        for process in self._processes:
            process.kill()
            process.wait()


def drive(port: int, script: str, connections: int, seconds: float) -> int:
    """Let wrk ask for a while; how many answers it got."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", script, f"http://127.0.0.1:{port}/v1/models/digits:predict"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, said
    found = re.search(r"(\d+) requests in", said)
    assert found, said
    return int(found[1])


def _until(ready: Callable[[], bool]) -> None:
    for _ in range(600):
        if ready():
            return
        time.sleep(0.05)
    raise RuntimeError("a process did not come up")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    """Drive every level in turns, and print what each addition costs."""
    options = arguments(__doc__ or "").parse_args()
    rounds, seconds = (1, 1) if options.quick else (5, 2)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "row.lua"
        body = msgspec.json.encode({"instances": [_row()]}).decode()
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        lines = [f"wrk.headers['{name}']='{value}'" for name, value in headers.items()]
        script.write_text("\n".join(["wrk.method='POST'", f"wrk.body=[=[{body}]=]", *lines]))
        contestants = [Contestant(level, folder) for level in LEVELS]
        try:
            samples = {each.level: (lambda each=each: each.sample(str(script), 32, seconds)) for each in contestants}
            for sample in samples.values():
                sample()
            found = interleave(samples, rounds)
        finally:
            for each in contestants:
                each.close()
    rows, last = [], 0.0
    for level in LEVELS:
        middle, spread = median(found[level]), f"{min(found[level]):.1f} to {max(found[level]):.1f}"
        rows.append({"level": level, "µs": f"{middle:.1f}", "least to most": spread, "adds": f"{middle - last:+.1f}", "what": ADDS[level]})
        last = middle
    notes = [f"CPU of all processes a request, 32 connections; wanted with everything: at most {WANTED_US} µs."]
    show("The way of a request", notes, rows, {"us": found}, as_json=options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--engine"]:
        import uvloop

        die_with_parent()
        uvloop.run(engine(sys.argv[2], sys.argv[3]))
    elif sys.argv[1:2] == ["--app"]:
        import uvicorn

        die_with_parent()
        app = App(sys.argv[3], sys.argv[2])
        uvicorn.run(app, port=int(sys.argv[4]), loop="uvloop", http="httptools", access_log=False, log_level="error", lifespan="off")
    else:
        main()
