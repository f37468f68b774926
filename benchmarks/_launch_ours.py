"""Four of our workers to their first committed step: what `launch.py` runs in a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import aimass
from aimass.parameters.counts import STEPS

NUM_WORKERS = 4
_LOOK_S = 0.001
_PATIENCE_S = 60.0


def first_steps(data: aimass.data.Dataset, home: str) -> float:
    """Seconds from `train` to the moment at which every worker has committed a step. The run is then cancelled."""
    start = time.monotonic()
    run = aimass.train(data, model="mlp", workers=NUM_WORKERS, optimizer="sgd", epochs=100_000, home=home)
    while not _have_all_stepped(run):
        if time.monotonic() - start > _PATIENCE_S or run.state != "running":
            raise SystemExit(f"the workers did not all take a step: the run is {run.state}")
        time.sleep(_LOOK_S)
    taken = time.monotonic() - start
    run.cancel()
    run.wait()
    return taken


def _have_all_stepped(run: aimass.Run) -> bool:
    """Each worker counts its own steps, in the words that all processes share."""
    server = getattr(run._trainer, "server", None)
    return server is not None and all(server.words[server.counted(slot) + STEPS] for slot in range(NUM_WORKERS))


def main() -> None:
    """Print the seconds: cold since the process was started (`sys.argv[1]`, on the monotonic clock), then warm ones."""
    with tempfile.TemporaryDirectory() as home:
        data = aimass.data.load("digits")
        loaded = time.monotonic()
        first = first_steps(data, str(Path(home)))
        cold = loaded - float(sys.argv[1]) + first
        warm = [first_steps(data, str(Path(home))) for _ in range(int(sys.argv[2]))]
    print(json.dumps({"cold_s": cold, "first_s": first, "warm_s": warm}))


if __name__ == "__main__":
    main()
