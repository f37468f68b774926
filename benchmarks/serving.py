"""One row of 64 numbers over HTTP: our whole platform beside FastAPI with torch, and LitServe.

    python serving.py [--quick] [--json]

wrk drives each in turns, with 1 and 32 connections that stay open; the others are stopped meanwhile. All hold the same network, check
a key and answer the same JSON; ours also routes, meters, writes the bill and posts it to the ledger. CPU is that of the whole tree of
processes, user and system. "Without the model" takes off the network's call, timed by itself at the batch size that was seen.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
from _measure import arguments, die_with_parent, interleave, median, show, timed

from aimass.serving.frames import Ask, FrameReader, Reply, frame

HERE = Path(__file__).parent
PATH = "/v1/models/digits:predict"
CONNECTIONS = (1, 32)
WANTED_US, WANTED_FASTAPI, WANTED_LITSERVE = 80, 1.5, 5.0
_READY_S = 120.0
_KEY = "am_00000000000000000000000001_" + "s" * 48
UP = [sys.executable, "-c", "from aimass.cli import main; main()", "up", "--json", "--port", "0"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One turn of wrk: answers a second, CPU of all processes an answer, the 99th percentile."""

    rps: float
    cpu_us: float
    p99_ms: float
    batch: float


class Peer:
    """A server and all of its processes, stopped between its turns."""

    def __init__(self, name: str, command: list[str], port: int | None = None, home: Path | None = None) -> None:
        self.name, self.key = name, _KEY
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "AIMASS_HOME": str(home or "")}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE if home else subprocess.DEVNULL, env=environment, cwd=HERE, preexec_fn=die_with_parent
        )
        self.url = f"http://127.0.0.1:{port}"
        if home is not None:
            assert self._process.stdout is not None
            started = json.loads(self._process.stdout.readline())
            self.url, self.key = started["url"], started["key"]

    def client(self) -> httpx.Client:
        """For what is no part of the measurement."""
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {self.key}"}, timeout=60)

    def wait(self, body: bytes) -> Any:
        """Until it answers; its answer."""
        end = time.monotonic() + _READY_S
        while time.monotonic() < end:
            assert self._process.poll() is None, f"{self.name} ended"
            try:
                with self.client() as client:
                    answer = client.post(PATH, content=body, headers={"content-type": "application/json", "x-api-key": self.key})
                if answer.status_code == 200:
                    return answer.json()
            except httpx.HTTPError:
                pass  # not yet
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} did not answer within {_READY_S:.0f} s")

    def tree(self) -> list[psutil.Process]:
        """All of its processes."""
        root = psutil.Process(self._process.pid)
        return [root, *root.children(recursive=True)]

    def send(self, number: signal.Signals) -> None:
        """A signal to all of them."""
        for process in self.tree():
            process.send_signal(number)

    def turn(self, script: Path, connections: int, seconds: float) -> Sample:
        """One sample."""
        self.send(signal.SIGCONT)
        try:
            before, batches = self._cpu_s(), self._batches()
            command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", str(script), self.url + PATH]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            spent, after = self._cpu_s() - before, self._batches()
        finally:
            self.send(signal.SIGSTOP)
        assert "Non-2xx" not in said, said
        requests = int(_found(r"(\d+) requests in", said))
        batch = (after[0] - batches[0]) / max(after[1] - batches[1], 1)
        return Sample(rps=requests / seconds, cpu_us=spent / requests * 1e6, p99_ms=_ms(_found(r"99%\s+(\S+)", said)), batch=batch)

    def _cpu_s(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.tree())

    def _batches(self) -> tuple[int, int]:
        """Requests and batches so far of our engine; (0, 0) of the others."""
        for process in self.tree():
            words = process.cmdline()
            if "aimass.serving.engine" in words:
                found = _stats(words[words.index("--socket") + 1])
                return sum(model["requests"] for model in found["models"]), found["batches"]
        return 0, 0

    def close(self) -> None:
        """End it, and everything it started."""
        tree = self.tree()
        self.send(signal.SIGCONT)
        self._process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=10)
        for process in alive:
            process.kill()
        self._process.wait()


def _stats(path: str) -> Any:
    """What an engine says of itself."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(frame(Ask(1, "stats")))
        reader = FrameReader(Reply)
        while not (frames := reader.feed(connection.recv(65536))):
            continue
    return msgspec.msgpack.decode(frames[0][1])


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, text
    return found[1]


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def peers(folder: Path, model: Path, body: bytes, litserve: bool) -> Iterator[list[Peer]]:
    """Ours with the model deployed, and the others; all have answered once, and the same."""
    started: list[Peer] = []
    try:
        ours = Peer("aimass", UP, home=folder / "home")
        started.append(ours)
        _deploy(ours, model)
        port = _free_port()
        started.append(Peer("FastAPI + torch", [sys.executable, "_serve_fastapi.py", str(model), str(port), _KEY], port))
        for max_batch in (1, 32) if litserve else ():
            port = _free_port()
            command = [sys.executable, "_serve_litserve.py", str(model), str(port), _KEY, str(max_batch)]
            started.append(Peer("LitServe" if max_batch == 1 else "LitServe, batches", command, port))
        wanted = None
        for peer in started:
            answer = peer.wait(body)["predictions"][0]
            assert wanted is None or abs(wanted["probability"] - answer["probability"]) < 1e-5, (peer.name, wanted, answer)
            wanted = wanted or answer
            peer.send(signal.SIGSTOP)
        yield started
    finally:
        for peer in started:
            peer.close()


def _deploy(ours: Peer, model: Path) -> None:
    with ours.client() as client:
        files = [("files", (file.name, file.read_bytes())) for file in sorted(model.iterdir())]
        client.post("/v1/registry/models/digits/versions", files=files).raise_for_status()
        client.post("/v1/deployments", json={"model": "digits"}).raise_for_status()


def _write_script(path: Path, body: bytes, key: str) -> Path:
    headers = {"authorization": f"Bearer {key}", "x-api-key": key, "content-type": "application/json"}
    lines = [f"wrk.headers['{name}']='{value}'" for name, value in headers.items()]
    path.write_text("\n".join(["wrk.method='POST'", f"wrk.body=[=[{body.decode()}]=]", *lines]))
    return path


def _model_us(folder: Path, batch: float) -> float:
    """What the network's call takes a row, alone, in batches of this many."""
    import torch

    from aimass.models.model import Model

    torch.set_num_threads(1)
    model, rows = Model.load(folder), max(1, round(batch))
    numbers, nothing = torch.zeros((rows, model.encoder.num_numbers)), torch.empty((rows, 0), dtype=torch.int64)
    with torch.inference_mode():
        timed(lambda: model.module(numbers, nothing), 200)
        return min(timed(lambda: model.module(numbers, nothing), 200) for _ in range(5)) / rows * 1e6


def main() -> None:
    """Drive all in turns, and say how they compare."""
    options = arguments(__doc__ or "").parse_args()
    if shutil.which("wrk") is None:
        sys.exit("this benchmark drives the servers with wrk; install it (apt-get install wrk) and start again")
    import aimass
    from aimass.data import load

    rounds, seconds = (2, 1.0) if options.quick else (7, 3.0)
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        model = folder / "digits"
        aimass.train("digits", workers=0, epochs=3, home=folder / "training").model.save(model)
        body = json.dumps({"instances": [{name: float(place % 17) for place, name in enumerate(load("digits").encoder.features)}]}).encode()
        with peers(folder, model, body, litserve=_has_litserve()) as started:
            scripts = {peer.name: _write_script(folder / f"{place}.lua", body, peer.key) for place, peer in enumerate(started)}
            cases = {(peer.name, many): (peer, many) for peer in started for many in CONNECTIONS}
            for peer, many in cases.values():
                peer.turn(scripts[peer.name], many, 1.0)
            found: dict[tuple[str, int], list[Any]] = interleave(
                {case: (lambda peer=peer, many=many: peer.turn(scripts[peer.name], many, seconds)) for case, (peer, many) in cases.items()},
                rounds,
            )
        report(found, model, options.json)


def _has_litserve() -> bool:
    try:
        import litserve  # noqa: F401 - only whether it is there
    except ImportError:
        print("litserve is not installed and is left out; make bench has it\n", file=sys.stderr)
        return False
    return True


def report(found: dict[tuple[str, int], list[Sample]], model: Path, as_json: bool) -> None:
    """The table, and what was wanted."""
    rows, figures = [], []
    for (name, many), samples in found.items():
        rps, cpu, p99 = ([getattr(each, field) for each in samples] for field in ("rps", "cpu_us", "p99_ms"))
        batch = median([each.batch for each in samples]) if name == "aimass" else 1.0
        network = _model_us(model, batch)
        ratios = [each.rps / ours.rps for each, ours in zip(samples, found["aimass", many], strict=True)]
        line = {"server": name, "connections": many, "rps": median(rps), "cpu_us": median(cpu), "model_us": network, "p99_ms": median(p99)}
        figures.append({**line, "batch": batch, "ours_times": 1 / median(ratios), "rps_all": rps, "cpu_us_all": cpu, "p99_ms_all": p99})
        rows.append(
            {
                "server": name,
                "conn.": many,
                "answers/s": f"{median(rps):,.0f}",
                "least to most": f"{min(rps):,.0f} to {max(rps):,.0f}",
                "ours ×": f"{1 / median(ratios):.1f}",
                "CPU µs": f"{median(cpu):.0f} ({min(cpu):.0f} to {max(cpu):.0f})",
                "without the model": f"{median(cpu) - network:.0f}" if name == "aimass" else "",
                "p99 ms": f"{median(p99):.2f}",
                "rows a batch": f"{batch:.1f}" if name == "aimass" else "",
            }
        )
    notes = [
        "One row of 64 numbers over HTTP.",
        f"Wanted of ours: at most {WANTED_US} µs of CPU a request without the model's call, {WANTED_FASTAPI} times the answers of FastAPI, "
        f"{WANTED_LITSERVE:.0f} times LitServe's.",
        "wrk takes a core of its own where there is one; with two cores it stands in the way of servers with two processes.",
    ]
    show("serving", notes, rows, {"samples": figures}, as_json=as_json)


if __name__ == "__main__":
    main()
