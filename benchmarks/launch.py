"""Four workers to their first step: ours against torchrun and Ray.

    python launch.py [--quick] [--json]

Cold is from nothing: the interpreter, its imports, the data. Warm is the second time in the same process: our fork server
runs, Ray's cluster runs. torchrun keeps nothing between two starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from _measure import ONE_THREAD, arguments, interleave, median, show

NUM_WORKERS = 4
_HERE = Path(__file__).resolve().parent
_LIMIT_S = 120.0


def run_script(script: str, num_warm: int, warm: list[float]) -> float:
    """Start a script that prints its figures; keep the warm ones and return the cold one, in seconds."""
    command = [sys.executable, str(_HERE / script), str(time.monotonic()), str(num_warm)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise RuntimeError(f"{script} ended with status {done.returncode}: {done.stderr[-500:]}")
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    warm += figures["warm_s"]
    return float(figures["cold_s"])


def run_torchrun() -> float:
    """Seconds from the command to the last worker's first step."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={NUM_WORKERS}"]
        command += [str(_HERE / "_launch_torchrun.py"), folder]
        start = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False, env={**os.environ, **ONE_THREAD})
        moments = [float(file.read_text(encoding="ascii")) for file in Path(folder).iterdir()]
    if len(moments) != NUM_WORKERS:
        raise RuntimeError(f"torchrun ended with status {done.returncode}: {done.stderr[-500:]}")
    return max(moments) - start


def main() -> None:
    """Start everyone in turns and print the table."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    rounds = 2 if options.quick else 5
    ours_warm: list[float] = []
    ray_warm: list[float] = []
    samples: dict[str, Callable[[], float]] = {
        "ours, cold": partial(run_script, "_launch_ours.py", 3, ours_warm),
        "torchrun, cold": run_torchrun,
        "ray, cold": partial(run_script, "_launch_ray.py", 1, ray_warm),
    }
    found = interleave(samples, rounds)
    found = {"ours, warm": ours_warm, "ray, warm": ray_warm, **found}
    medians = {name: median(values) for name, values in found.items()}
    rows: list[dict[str, Any]] = [
        {
            "four workers to their first step": name,
            "median s": f"{medians[name]:.2f}",
            "least": f"{min(values):.2f}",
            "most": f"{max(values):.2f}",
            "n": len(values),
            "× ours, same state": f"{medians[name] / medians['ours, ' + name.split(', ')[1]]:.1f}",
            "× ours, warm": f"{medians[name] / medians['ours, warm']:.1f}",
        }
        for name, values in found.items()
    ]
    notes = [
        "ours: until each of the four has committed a step on the digits. torchrun: DDP over gloo, one step on random rows;",
        "ray: four actors that take a step on random rows by themselves. One thread a process.",
    ]
    show("launch", notes, rows, {"seconds": found, "medians": medians}, as_json=options.json)


if __name__ == "__main__":
    main()
