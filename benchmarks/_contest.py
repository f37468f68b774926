"""What the training benchmarks train, ours and theirs, and how a run is watched: the moments at which batches were committed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from _measure import ONE_THREAD, die_with_parent

if TYPE_CHECKING:
    import torch
    from torch import nn

    import aimass

STRATEGIES: dict[str, dict[str, Any]] = {
    "async_sgd": {"name": "async_sgd"},
    "parameter_server, staleness=0": {"name": "parameter_server", "staleness": 0},
    "parameter_server, staleness=4": {"name": "parameter_server", "staleness": 4},
    "allreduce": {"name": "allreduce"},
}
START_S = 120.0
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What everyone trains. It reaches the peers' processes as JSON.

    Args:
        hidden, inputs, outputs: of the multilayer perceptron; one output is a regression.
        batch_size: rows per worker per step.
        slow: how many times as long a worker takes for a gradient, by its number (as text, which JSON wants).
        moves_s: after how many seconds these factors move on to the next worker; 0 for never.
        checkpoint_s: how often peers write a checkpoint; 0 for never.
        shows: whether the peers' first process shows its parameters after each step.
        rows, folder: where the peers find the rows, and leave what they note.
    """

    hidden: tuple[int, ...]
    batch_size: int
    inputs: int = 64
    outputs: int = 1
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    seed: int = 0
    slow: dict[str, float] = field(default_factory=dict)
    moves_s: float = 0.0
    checkpoint_s: float = 0.0
    shows: bool = False
    rows: str = ""
    folder: str = ""

    @classmethod
    def read(cls, text: str) -> Contest:
        """The contest that `write` wrote."""
        return cls(**json.loads(text))

    def write(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    def slowness(self, worker: int) -> float:
        """How many times as long a worker takes now: as `aimass.training.workers.shaping` has it for ours."""
        from aimass.training.workers.shaping import Shape

        shape = Shape(slow={int(number): factor for number, factor in self.slow.items()}, moves_s=self.moves_s)
        return shape.slowness(worker, time.monotonic())

    def network(self) -> nn.Module:
        """The network as every contestant starts it: that of the run with this seed."""
        import torch

        from aimass.models.config import build_module, parse_model

        torch.manual_seed(self.seed)
        return build_module(parse_model({"name": "mlp", "hidden": list(self.hidden)}), self.inputs, (), self.outputs)


def random_rows(contest: Contest, num_batches: int) -> aimass.data.Dataset:
    """Rows without a sense, all of them to train on."""
    import aimass

    generator, rows = np.random.default_rng(0), num_batches * contest.batch_size
    columns = {f"x{i}": generator.normal(size=rows).astype(np.float32) for i in range(contest.inputs)}
    return aimass.data.load({**columns, "y": generator.normal(size=rows)}, "y", task="regression", split=(1.0, 0.0, 0.0))


def write_rows(data: aimass.data.Dataset, folder: Path) -> str:
    """The training rows as ours see them, for the peers."""
    np.savez(folder / "rows.npz", numbers=data.train.encoded.numbers, targets=data.train.encoded.targets)
    return str(folder / "rows.npz")


def strategies() -> dict[str, dict[str, Any]]:
    """Those that are here."""
    from aimass.core.errors import NotFound, UsageError
    from aimass.training.planes import plane_of
    from aimass.training.settling import settle

    here = {}
    for name, strategy in STRATEGIES.items():
        with suppress(UsageError, NotFound):
            plane_of(settle({"workers": 2, "strategy": strategy})[0])
            here[name] = strategy
    return here


class OurRun:
    """A run of ours that goes on until it is closed."""

    def __init__(self, contest: Contest, data: aimass.data.Dataset, workers: int, strategy: dict[str, Any], home: str) -> None:
        import aimass
        from aimass.training.workers.shaping import shaped

        settings: dict[str, Any] = {
            "model": {"name": "mlp", "hidden": list(contest.hidden)},
            "optimizer": {"name": contest.optimizer, "lr": contest.learning_rate},
            "batch_size": contest.batch_size,
            "seed": contest.seed,
            "workers": workers,
            "strategy": strategy,
        }
        with shaped(slow={int(worker): factor for worker, factor in contest.slow.items()}, moves_s=contest.moves_s):
            self.run = aimass.train(data, **settings, epochs=1_000_000, checkpoint={"every": 3600}, home=home)
        self._workers = max(workers, 1)  # without workers, the caller's process has the first slot
        self.trainer = self._when_open()
        self.moments: list[float] = []
        self._steps: list[list[float]] = [[] for _ in range(self._workers)]
        self._committed, self._counted = 0, [0] * self._workers

    def _when_open(self) -> Any:
        deadline = time.monotonic() + START_S
        while not getattr(trainer := self.run._trainer, "_is_open", False):
            if time.monotonic() > deadline or self.run.state != "running":
                self.run.wait(1)
                raise RuntimeError(f"the run did not start: it is {self.run.state}")
            time.sleep(0.001)
        return trainer

    @property
    def committed(self) -> int:
        """Batches committed so far, over all workers."""
        return int(self.trainer.leases.committed_batches)

    def steps(self, worker: int) -> np.ndarray:
        """The moments, as `watch` saw them, of a worker's batches, and of those of whoever it replaced."""
        return np.array(self._steps[worker])

    def watch(self, seconds: float, look_s: float = 0.001) -> None:
        """Look for some time at what is done, and note the moments: of each worker's batches, and in `moments` of all that count."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            self._note(now)
            time.sleep(look_s)

    def _note(self, now: float) -> None:
        committed = self.committed
        self.moments += [now] * (committed - self._committed)
        self._committed = committed
        for worker, seen in enumerate(self._counted):
            self._counted[worker] = self._count(worker)
            self._steps[worker] += [now] * (self._counted[worker] - seen)

    def _count(self, worker: int) -> int:
        from aimass.parameters.counts import STEPS

        return int(self.trainer.server.words[self.trainer.server.counted(worker) + STEPS])

    def wait_for(self, steps: int, *, of: Callable[[Iterable[bool]], bool] = all) -> None:
        """Wait until every worker (`any`: one of them) has done so many batches."""
        deadline = time.monotonic() + START_S
        while not of(self._count(worker) >= steps for worker in range(self._workers)):
            if time.monotonic() > deadline or self.is_over:
                raise RuntimeError(f"the run does not get on: it is {self.run.state}, with {self.committed} batches done")
            time.sleep(0.001)
        self._committed, self._counted = self.committed, [self._count(worker) for worker in range(self._workers)]

    def parameters(self) -> torch.Tensor:
        """A copy of p as it is now. Nothing is locked: a part of it may be an update ahead."""
        return self.trainer.server.p.clone()  # type: ignore[no-any-return]

    def kept(self) -> int:
        """How many of the batches noted will not be done again, whoever dies: each is kept once it is committed."""
        return len(self.moments)

    @property
    def said(self) -> str:
        """The last events."""
        return "\n".join(map(str, list(self.run.events())[-10:]))

    @property
    def is_over(self) -> bool:
        """Whether nothing trains any more."""
        return bool(self.run.state != "running")

    def pid(self, worker: int) -> int:
        """The process that is this worker now."""
        return [event.data["pid"] for event in self.run.events() if event.type == "worker_started" and event.data["worker"] == worker][-1]

    def close(self) -> None:
        """Stop it, and hear of what failed."""
        self.trainer = None
        self.run.cancel()
        self.run.wait(START_S)


@contextmanager
def our_run(contest: Contest, data: aimass.data.Dataset, workers: int, strategy: dict[str, Any]) -> Iterator[OurRun]:
    """A run of ours, stopped at the end, with a folder that is removed."""
    with tempfile.TemporaryDirectory() as home:
        run = OurRun(contest, data, workers, strategy, home)
        try:
            yield run
        finally:
            run.close()


class PeerRun:
    """Processes of a peer that train until they are closed.

    Args:
        folder: where they note their steps.
        processes: how many of them train.
        commands: what starts them.
    """

    def __init__(self, folder: Path, processes: int, commands: list[list[str]]) -> None:
        self.folder, self._processes = folder, processes
        self._log = (folder / "log").open("wb")
        environment = {**os.environ, **ONE_THREAD}
        self._started = [
            subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log, preexec_fn=die_with_parent)
            for command in commands
        ]

    def steps(self, rank: int) -> np.ndarray:
        """The moments after each of a process's steps so far, and after those of whoever it replaced."""
        path = self.folder / f"steps-{rank}"
        content = path.read_bytes() if path.exists() else b""
        return np.frombuffer(content[: len(content) // 8 * 8])

    @property
    def moments(self) -> list[float]:
        """The moments after each of the first process's steps, which are those of the group."""
        return list(self.steps(0))

    def watch(self, seconds: float) -> None:
        """Let some time go by: the processes note their steps themselves."""
        time.sleep(seconds)

    def wait_for(self, steps: int, *, of: Callable[[Iterable[bool]], bool] = all) -> None:
        """Wait until every process (`any`: one of them) has taken so many steps."""
        deadline = time.monotonic() + START_S
        while not of(len(self.steps(rank)) >= steps for rank in range(self._processes)):
            if time.monotonic() > deadline or self.is_over:
                raise RuntimeError(f"the peer does not get on: {self.said}")
            time.sleep(0.005)

    def parameters(self) -> torch.Tensor:
        """What the first process showed last, in the order of a manifest. A part of it may be an update ahead."""
        import torch

        return torch.from_numpy(np.load(self.folder / "shown.npy"))

    def kept(self) -> int:
        """How many steps the last checkpoint has."""
        import torch

        path = self.folder / "checkpoint.pt"
        return int(torch.load(path, weights_only=True)["steps"]) if path.exists() else 0

    @property
    def said(self) -> str:
        """The end of what its processes wrote."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    @property
    def is_over(self) -> bool:
        """Whether nothing trains any more."""
        return any(process.poll() is not None for process in self._started)

    def pid(self, rank: int) -> int:
        """The process that has this rank now."""
        return int((self.folder / f"pid-{rank}").read_text(encoding="ascii"))

    def close(self) -> None:
        """End every process, and whatever it has started and left."""
        families = [psutil.Process(process.pid).children(recursive=True) for process in self._started if process.poll() is None]
        for process in self._started:
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for left in chain.from_iterable(families):
            with suppress(psutil.NoSuchProcess):
                left.kill()
        self._log.close()


@contextmanager
def torch_run(contest: Contest, processes: int, *, group: bool, options: tuple[str, ...] = ()) -> Iterator[PeerRun]:
    """Processes of `_train_torch.py`, ended at the end.

    Args:
        contest: what they train.
        processes: how many.
        group: whether they train one model, as DDP by torchrun; otherwise each trains its own.
        options: more of torchrun's.
    """
    program = [sys.executable]
    if group:
        program += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *options]
    with _noted(contest) as (noted, folder):
        command = [*program, str(_HERE / "_train_torch.py"), noted.write()]
        run = PeerRun(folder, processes, [command] if group else [[*command, str(rank)] for rank in range(processes)])
        try:
            yield run
        finally:
            run.close()


@contextmanager
def ray_run(contest: Contest, processes: int) -> Iterator[PeerRun]:
    """Ray Train with so many workers, and a cluster of its own, both ended at the end."""
    with _noted(contest) as (noted, folder):
        run = PeerRun(folder, processes, [[sys.executable, str(_HERE / "_train_ray.py"), noted.write(), str(processes)]])
        try:
            yield run
        finally:
            run.close()


@contextmanager
def _noted(contest: Contest) -> Iterator[tuple[Contest, Path]]:
    """The contest with a folder for what the peers note, which is removed at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if contest.shows:
            size = sum(parameter.numel() for parameter in contest.network().parameters())
            np.lib.format.open_memmap(folder / "shown.npy", "w+", np.float32, (size,))
        yield replace(contest, folder=name), folder
