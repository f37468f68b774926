"""A model that is larger than one worker's memory: who trains it, and who ends for want of memory.

    python memory.py [--quick] [--json]

The same network learns the digits by Adam under each strategy. Its weights, gradients and states come to 16 bytes a parameter, and each
process that computes may hold a share of that, beside what PyTorch takes: three quarters where one or two work, 45% where four do.

The kernel holds a process to RLIMIT_DATA: the private memory that it may write to, threads' stacks counted whole. Shared memory is not
counted. So the limit is lowered, a hundred times a second, by what the process has in hand of it (`RssShmem`): the run's block and the
training rows. An allocation that does not fit fails then, as one does in a machine or a container that is full.

The driver is not held to anything: it builds the model, and the block that holds all parts is its own. `driver` says what it held at most.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from _measure import ONE_THREAD, arguments, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import aimass
from aimass.core.errors import AimassError
from aimass.training.workers import entry

LAYERS, WIDTH, BATCH = 32, 1024, 64
BYTES_A_PARAMETER = 16  # float32: p, g and two states
SHARES = {1: 0.75, 2: 0.75, 4: 0.45}
CASES = (("single", 1), ("allreduce", 2), ("pipeline", 2), ("sharded", 2), ("allreduce", 4), ("pipeline", 4), ("sharded", 4))
_LOOK_S = 0.01


def memory_of(pid: int | str, file: str = "status") -> dict[str, int]:
    """What the kernel tells of a process's memory, in bytes; nothing of one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB") and ":" in line)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def hold_to(limit_bytes: int) -> None:
    """Let this process hold so much more than it does now, private and shared together."""
    now = memory_of("self")
    most = now["VmData"] + now["RssShmem"] + limit_bytes
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]

    def hold() -> None:
        while True:
            resource.setrlimit(resource.RLIMIT_DATA, (max(1, most - memory_of("self")["RssShmem"]), hard))
            time.sleep(_LOOK_S)

    threading.Thread(target=hold, daemon=True).start()


def work_within(limit_bytes: int, context: Any) -> None:
    """What a worker's process runs."""
    from aimass.training.workers import entry

    hold_to(limit_bytes)
    entry.main(context)


class Watch(threading.Thread):
    """Looks at the workers from outside, and keeps the most that each held.

    Args:
        run: theirs.
    """

    def __init__(self, run: aimass.Run) -> None:
        super().__init__(daemon=True)
        self._run, self._is_over = run, threading.Event()
        self.most: dict[int, dict[str, int]] = {}

    def run(self) -> None:
        """Look, twenty times a second."""
        while not self._is_over.wait(0.05):
            for event in self._run.events():
                if event.type == "worker_started":
                    self._look(event.data["worker"], event.data["pid"])

    def _look(self, slot: int, pid: int) -> None:
        rollup, status = memory_of(pid, "smaps_rollup"), memory_of(pid)
        if not rollup or not status:
            return
        found = {
            "private": rollup["Private_Dirty"] + rollup["Private_Clean"],
            "shared": status["RssShmem"],
            "pss": rollup["Pss"],
        }
        kept = self.most.setdefault(slot, {})
        kept.update({name: max(value, kept.get(name, 0)) for name, value in found.items()})

    def close(self) -> None:
        """Look no more."""
        self._is_over.set()
        self.join()


def train(strategy: str, workers: int, limit_bytes: int, steps: int) -> dict[str, Any]:
    """Train under a strategy, held to a limit, in this process and those that it starts.

    Args:
        strategy: its name.
        workers: how many compute; 1 is this process.
        limit_bytes: what each may hold; 0 for no limit.
        steps: of 64 rows, whoever has them.
    """
    data = aimass.data.load("digits")
    if limit_bytes and workers > 1:
        entry.main = partial(work_within, limit_bytes)  # type: ignore[assignment]  # what a run starts its workers with
    elif limit_bytes:
        hold_to(limit_bytes)
    rows = BATCH if strategy in ("single", "pipeline") else BATCH // workers
    batches = steps if strategy in ("single", "pipeline") else steps * workers
    before = memory_of("self")["VmRSS"]
    with tempfile.TemporaryDirectory() as home:
        run = aimass.train(
            data,
            model={"name": "mlp", "hidden": [WIDTH] * LAYERS, "layer_norm": True},
            strategy=strategy,
            workers=workers if workers > 1 else 0,
            batch_size=rows,
            max_steps=batches,
            checkpoint={"every": 1000},
            home=home,
        )
        watch = Watch(run)
        watch.start()
        try:
            metrics = run.wait().metrics()
            size = sum(values.numel() for values in run.model.module.parameters())
            found: dict[str, Any] = {"loss": metrics["train_loss"], "slices": metrics.get("slices", []), "parameters": size}
        except AimassError as error:
            found = {"error": str(error)}
        watch.close()
    return {**found, "workers": watch.most, "driver": memory_of("self")["VmHWM"] - before}


def in_its_own(strategy: str, workers: int, limit_bytes: int, steps: int) -> dict[str, Any]:
    """The same in a process of its own, so that no case finds what another left."""
    case = json.dumps([strategy, workers, limit_bytes, steps])
    done = subprocess.run([sys.executable, __file__, "--case", case], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{strategy} with {workers} workers failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"strategy": strategy, "num_workers": workers, "limit": limit_bytes, **found}


def row_of(found: dict[str, Any]) -> dict[str, str]:
    """A line of the table."""
    most = found["workers"].values()

    def megabytes(name: str) -> str:
        return ", ".join(f"{one[name] / 1e6:.0f}" for one in most) or "-"

    grew = ", ".join(f"{(one['peak_bytes'] - one['base_bytes']) / 1e6:.0f}" for one in found.get("slices", ()))
    return {
        "strategy": found["strategy"],
        "workers": str(found["num_workers"]),
        "limit, MB": f"{found['limit'] / 1e6:.0f}" if found["limit"] else "none",
        "grew by, MB": grew or "-",
        "private": megabytes("private"),
        "of the block": megabytes("shared"),
        "Pss": megabytes("pss"),
        "driver, MB": f"{found['driver'] / 1e6:.0f}",
        "loss": f"{found['loss']:.5f}" if "loss" in found else "out of memory" if "memory" in found["error"] else "failed",
    }


def main() -> None:
    """Run the cases, and print a table."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--case", help="one case as JSON, in this process")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(train(*json.loads(options.case))))
        return
    steps = 2 if options.quick else 3
    cases = [case for case in CASES if case[1] <= 2 or not options.quick]
    figures = [in_its_own("single", 1, 0, steps)]
    whole = BYTES_A_PARAMETER * figures[0]["parameters"]
    for strategy, workers in cases:
        figures.append(in_its_own(strategy, workers, int(SHARES[workers] * whole), steps))
        print(json.dumps(row_of(figures[-1])), file=sys.stderr, flush=True)  # the machine may be busy, and this long
    notes = [
        f"p, g and Adam's states: {whole / 1e6:.0f} MB; {LAYERS} hidden layers of {WIDTH}, digits, {steps} steps of {BATCH} rows",
        *[f"{one['strategy']}, {one['num_workers']}: {one['error']}" for one in figures if "error" in one],
    ]
    show("memory", notes, [row_of(one) for one in figures], {"whole_bytes": whole, "cases": figures}, as_json=options.json)


if __name__ == "__main__":
    main()
