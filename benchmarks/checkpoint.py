"""What a checkpoint costs the training: its stall against torch.save and DCP's async_save, and the throughput lost at one a minute.

First, samples in turns: a network trains alone, one after the other, and takes a checkpoint of parameters and Adam's states while it
goes on. "Waits" is how long the training thread stands in the call, and in asking whether it is done; "loses" is how much longer the
steps took altogether than as many undisturbed ones just before; "on disk" is when the checkpoint is written and flushed.

Second, a real run in stretches with one checkpoint and without any, in turns: the seconds that a checkpoint costs, over sixty. "CPU" is
what the writing thread took of a core; it counts as lost where every core is busy with training, and a busy machine does not change it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from _measure import ONE_THREAD, Contestant, arguments, interleave, median, show, timed

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import numpy as np
import torch

import aimass
from aimass.models.config import build_module, parse_model
from aimass.models.tasks import task_of
from aimass.training import opening
from aimass.training.checkpoints.saving import Saver
from aimass.training.config import TrainConfig
from aimass.training.leases.rows import TrainingRows

NUM_COLUMNS = 64
BATCH_SIZE = 8
_ROWS = 32_000
_BYTES_PER_PARAMETER = 12  # p, and Adam's two states
_STEPS_BEFORE = 4
_MINUTE_S = 60.0
_WARM_STEPS = 3
_POLL_S = 0.002
_PATIENCE_S = 300.0
_WORKERS = (0, 2)


class Trains:
    """A network that trains, and can be asked for a checkpoint. What it writes lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self._number = 0

    def step(self) -> None:
        """Train on one batch."""
        raise NotImplementedError

    def begin(self, path: Path) -> None:
        """Ask for a checkpoint."""
        raise NotImplementedError

    def is_done(self) -> bool:
        """Whether what was asked for is written. With torch.save that is so when it returns."""
        return True

    def flush(self, path: Path) -> None:
        """Bring it to the disk, where that is not done yet."""

    def sample(self) -> dict[str, float]:
        """Take one checkpoint while training."""
        self._number += 1
        path = self.folder / f"{self._number}"
        step_s = timed(self.step, _STEPS_BEFORE)
        began = time.perf_counter()
        self.begin(path)
        waits_s, steps = time.perf_counter() - began, 0
        while True:
            asked = time.perf_counter()
            done = self.is_done()
            waits_s += time.perf_counter() - asked
            if done:
                break
            self.step()
            steps += 1
        loses_s = time.perf_counter() - began - steps * step_s
        self.flush(path)
        on_disk_s = time.perf_counter() - began
        written = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        assert written >= _BYTES_PER_PARAMETER * self.num_parameters, "there is less on the disk than there should be"
        for old in self.folder.iterdir():
            shutil.rmtree(old)
        os.sync()  # or the next one would wait for this one's pages
        return {"waits_s": waits_s, "loses_s": loses_s, "on_disk_s": on_disk_s, "step_s": step_s}

    def close(self) -> None:
        """Nothing is left to do."""

    num_parameters: int


class Ours(Trains):
    """The parts of a run with `workers=0`: learner, server, saver."""

    def __init__(self, folder: Path, hidden: tuple[int, ...]) -> None:
        super().__init__(folder)
        data = make_data(BATCH_SIZE)
        config = TrainConfig.parse(settings(hidden))
        torch.manual_seed(0)
        self._learner = opening.open_learner(config, data, task_of(data.encoder), None)
        self._server = opening.open_server(config, self._learner, None)
        self._saver = Saver(config, folder, self._learner, self._hear)
        self._batch = TrainingRows.of(data.train.encoded).take(torch.arange(BATCH_SIZE))
        self._is_written = True
        self.num_parameters = self._learner.manifest.num_parameters

    def step(self) -> None:
        _, gradient = self._learner.gradient(self._batch)
        self._server.push(gradient, self._server.clock)

    def begin(self, path: Path) -> None:
        self._is_written, self._saver.due = False, 0.0
        self._tend()

    def is_done(self) -> bool:
        self._tend()
        return self._is_written

    def _tend(self) -> None:
        self._saver.tend(self._server, dict)

    def _hear(self, event: Any) -> None:
        assert event.kind == "checkpoint", event
        self._is_written = True

    def close(self) -> None:
        self._saver.close()


class PlainLoop(Trains):
    """A loop as people write it; its checkpoints by torch.save."""

    def __init__(self, folder: Path, hidden: tuple[int, ...]) -> None:
        super().__init__(folder)
        encoded = make_data(BATCH_SIZE).train.encoded
        self._numbers, self._targets = torch.from_numpy(encoded.numbers), torch.from_numpy(encoded.targets)
        torch.manual_seed(0)
        self._module = build_module(parse_model({"name": "mlp", "hidden": hidden}), NUM_COLUMNS, (), 1)
        self._optimizer = torch.optim.Adam(self._module.parameters(), lr=1e-3, fused=True)
        self._loss = torch.nn.MSELoss()
        self.num_parameters = sum(parameter.numel() for parameter in self._module.parameters())
        for _ in range(_WARM_STEPS):
            self.step()

    def step(self) -> None:
        self._optimizer.zero_grad()
        loss = self._loss(self._module(self._numbers).squeeze(1), self._targets)
        loss.backward()
        self._optimizer.step()
        loss.item()

    def begin(self, path: Path) -> None:
        path.mkdir()
        torch.save({"model": self._module.state_dict(), "optimizer": self._optimizer.state_dict()}, path / "all.pt")

    def flush(self, path: Path) -> None:
        with (path / "all.pt").open("rb") as file:
            os.fsync(file.fileno())


class DCP(PlainLoop):
    """The same loop; its checkpoints by torch.distributed.checkpoint.async_save, which flushes them.

    Args:
        folder: where they lie.
        hidden: the network.
        keeps_stager: one stager for all checkpoints, whose memory is used again; otherwise each call makes its own.
    """

    def __init__(self, folder: Path, hidden: tuple[int, ...], keeps_stager: bool) -> None:
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        super().__init__(folder, hidden)
        options = StagingOptions(use_pinned_memory=False, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=False)
        self._stager = DefaultStager(options) if keeps_stager else None
        self._future: Future[Any] | None = None

    def begin(self, path: Path) -> None:
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimizer = get_state_dict(self._module, self._optimizer)
        self._future = dcp.async_save({"model": model, "optimizer": optimizer}, checkpoint_id=str(path), async_stager=self._stager)

    def is_done(self) -> bool:
        assert self._future is not None, "nothing was begun"
        if self._future.done():
            self._future.result()
            return True
        return False

    def flush(self, path: Path) -> None:
        """It is on the disk."""


def settings(hidden: tuple[int, ...]) -> dict[str, Any]:
    """Those of our runs: checkpoints are taken when the benchmark says so."""
    return {
        "model": {"name": "mlp", "hidden": list(hidden)},
        "optimizer": {"name": "adam", "lr": 1e-3},
        "batch_size": BATCH_SIZE,
        "stop": {"max_steps": 10**9},
        "checkpoint": {"every": 10**6, "keep": 1},
        "seed": 0,
    }


def make_data(rows: int) -> aimass.data.Dataset:
    """Random rows, all of them to train on."""
    generator = np.random.default_rng(0)
    columns = {f"x{i}": generator.normal(size=rows).astype(np.float32) for i in range(NUM_COLUMNS)}
    return aimass.data.load({**columns, "y": generator.normal(size=rows)}, "y", task="regression", split=(1.0, 0.0, 0.0))


# ---------------------------------------------------------------------------------------------------------------- stall


def measure_stall(folder: Path, hidden: tuple[int, ...], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Each contestant's samples. The first ones, which take memory for the first time, stand apart."""
    kinds: dict[str, Callable[[Path], Trains]] = {
        "ours": partial(Ours, hidden=hidden),
        "torch.save": partial(PlainLoop, hidden=hidden),
        "DCP async_save": partial(DCP, hidden=hidden, keeps_stager=False),
        "DCP async_save, stager kept": partial(DCP, hidden=hidden, keeps_stager=True),
    }
    contestants: dict[str, Contestant] = {}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}

    def take(name: str) -> float:
        found[name].append(contestants[name].call("sample"))
        return found[name][-1]["loses_s"]

    try:
        for name, build in kinds.items():
            own = folder / name.replace(" ", "_")
            own.mkdir()
            contestants[name] = Contestant(name, partial(build, own))
        interleave({name: partial(take, name) for name in kinds}, rounds + 1)
    finally:
        for contestant in contestants.values():
            contestant.close()
    return found


def stall_rows(found: dict[str, list[dict[str, float]]]) -> list[dict[str, str]]:
    """The table: a row a contestant."""
    ours = {what: median([sample[what] for sample in found["ours"][1:]]) for what in ("waits_s", "loses_s")}
    rows = []
    for name, (first, *samples) in found.items():
        waits, loses, disk, step = ([sample[what] for sample in samples] for what in ("waits_s", "loses_s", "on_disk_s", "step_s"))
        rows.append(
            {
                "": name,
                "waits, ms": f"{median(waits) * 1e3:.0f}",
                "least to most": f"{min(waits) * 1e3:.0f} to {max(waits) * 1e3:.0f}",
                "the first": f"{first['waits_s'] * 1e3:.0f}",
                "× ours": f"{median(waits) / ours['waits_s']:.1f}",
                "loses, ms": f"{median(loses) * 1e3:.0f}",
                "from to": f"{min(loses) * 1e3:.0f} to {max(loses) * 1e3:.0f}",
                "on disk, s": f"{median(disk):.2f}",
                "ms a step": f"{median(step) * 1e3:.0f}",
                "n": str(len(samples)),
            }
        )
    return rows


# ----------------------------------------------------------------------------------------------------------- throughput


def measure_run(home: Path, hidden: tuple[int, ...], workers: int, stretch_s: float, pairs: int) -> dict[str, Any]:
    """A run in stretches, each with a checkpoint at its begin or without: the seconds that each checkpoint cost."""
    run = aimass.train(make_data(_ROWS), workers=workers, home=home, progress=False, **settings(hidden))
    trainer = run._trainer
    assert trainer is not None, "it has just begun"

    def wait_for(condition: Callable[[], bool]) -> None:
        deadline = time.perf_counter() + _PATIENCE_S
        while not condition():
            if time.perf_counter() > deadline or run.state != "running":
                raise SystemExit(f"the run does not get on: it is {run.state}")
            time.sleep(_POLL_S)

    def checkpoints() -> list[dict[str, Any]]:
        return [event.data for event in run.events() if event.type == "checkpoint"]

    def writing_cpu_s() -> float:
        """What the thread that writes has taken of the processor so far."""
        (writer,) = [thread for thread in threading.enumerate() if thread.name == "checkpoints"]
        fields = Path(f"/proc/self/task/{writer.native_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stretch(*, is_saved: bool) -> tuple[int, float]:
        """Steps, and the seconds that they took: from the end of a step to the end of another."""
        number, clock = len(checkpoints()), trainer.server.clock
        wait_for(lambda: trainer.server.clock > clock)
        first, began = trainer.server.clock, time.perf_counter()
        if is_saved:
            trainer.saver.due = 0.0
        wait_for(lambda: time.perf_counter() - began >= stretch_s)
        if is_saved:
            wait_for(lambda: len(checkpoints()) > number)
        clock = trainer.server.clock
        wait_for(lambda: trainer.server.clock > clock)
        return trainer.server.clock - first, time.perf_counter() - began

    try:
        wait_for(lambda: hasattr(trainer, "server") and trainer.server.clock > _WARM_STEPS)
        stretch(is_saved=True)  # takes the memory
        costs, rates, cpu_s = [], [], []
        for turn in range(pairs):
            kinds, cpu_before_s = ((False, True) if turn % 2 else (True, False)), writing_cpu_s()
            taken = {is_saved: stretch(is_saved=is_saved) for is_saved in kinds}
            (steps, without_s), (saved_steps, with_s) = taken[False], taken[True]
            costs.append(with_s - saved_steps * without_s / steps)
            rates.append(steps / without_s)
            cpu_s.append(writing_cpu_s() - cpu_before_s)
        events = checkpoints()[1:]
    finally:
        run.cancel()
        run.wait()
        shutil.rmtree(run.folder)
    return {
        "workers": workers,
        "stretch_s": stretch_s,
        "cost_s": costs,
        "lost_at_one_a_minute": [cost / _MINUTE_S for cost in costs],
        "steps_per_s": rates,
        "cpu_s": cpu_s,
        "paused_s": [event["paused_s"] for event in events],
        "took_s": [event["took_s"] for event in events],
    }


def run_rows(figures: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The table: a row a run."""
    return [
        {
            "": f"workers={found['workers']}",
            "steps/s": f"{median(found['steps_per_s']):.2f}",
            "paused, ms": f"{median(found['paused_s']) * 1e3:.0f}",
            "on disk, s": f"{median(found['took_s']):.2f}",
            "CPU, s": f"{median(found['cpu_s']):.2f}",
            "costs, s": f"{median(found['cost_s']):.2f}",
            "from to": f"{min(found['cost_s']):.2f} to {max(found['cost_s']):.2f}",
            "lost at one a minute": f"{median(found['lost_at_one_a_minute']):.2%}",
            "n": str(len(found["cost_s"])),
        }
        for found in figures
    ]


def main() -> None:
    """Measure both and print the tables."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk that is measured")
    parser.add_argument("--width", type=int, default=4096, help="of each of the seven layers; 4096 makes 101 million parameters")
    parser.add_argument("--part", choices=("stall", "run"), help="only one of the two")
    options = parser.parse_args()
    torch.set_num_threads(1)
    hidden, rounds = ((1024,) * 7, 2) if options.quick else ((options.width,) * 7, 3)
    stretch_s, pairs, all_workers = (3.0, 2, _WORKERS[:1]) if options.quick else (15.0, 5, _WORKERS)
    num_parameters = sum(a * b + b for a, b in zip((NUM_COLUMNS, *hidden), (*hidden, 1), strict=True))
    needed = 4 * _BYTES_PER_PARAMETER * num_parameters
    if shutil.disk_usage(options.folder).free < needed:
        raise SystemExit(f"{needed / 1e9:.1f} GB of disk are needed in {options.folder}; free some, or give --folder or --quick")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="aimass-checkpoint-") as place:
        stall = {} if options.part == "run" else measure_stall(Path(place), hidden, rounds)
        runs = [measure_run(Path(place), hidden, workers, stretch_s, pairs) for workers in all_workers if options.part != "stall"]
    figures = {"parameters": num_parameters, "stall": stall, "runs": runs}
    about_stall = [
        f"{num_parameters / 1e6:.1f} million parameters with Adam, {_BYTES_PER_PARAMETER * num_parameters / 1e9:.2f} GB a checkpoint;",
        f"batches of {BATCH_SIZE} rows, one computing thread a process; medians with least and most.",
        'torch.save does not flush: that is done, and timed, after it has returned, and counts in "on disk" alone.',
    ]
    about_runs = [
        f"runs: stretches of {stretch_s:.0f} s with one checkpoint and without any, in turns; what one costs, over a minute.",
    ]
    parts = [*([(stall_rows(stall), about_stall)] if stall else []), *([(run_rows(runs), about_runs)] if runs else [])]
    (rows, notes), *more = parts
    show("checkpoint", notes, rows, figures, as_json=options.json, more=more)


if __name__ == "__main__":
    main()
