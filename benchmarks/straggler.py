"""One of four workers three times as slow: time to a target loss, asynchronous and bounded staleness against torch DDP.

    python straggler.py [--quick] [--json]

What is possible. DDP goes at the pace of the slowest: n batches in the time of one of its gradients, 3 units. Asynchronous workers do
(n − 1) · 3 + 1 batches meanwhile: 3 − 2/n times as many, so 2.0 with two workers and 2.5 with four. Whether that is as much less time
to the same loss is the question here: a batch of DDP's is applied with n − 1 others, as one larger one, and an asynchronous one is
a few updates old.

Four workers need four cores, unless they are slow: here each sleeps for 5/6 of its time, as on a machine a sixth as fast, and the
straggler for 17/18. Together they burn less than one core, so that sleep and not contention decides who waits for whom.

The straggler *stays*: it is always the same worker; or it *moves*: each worker is slow for a quarter of a second in turn, as on
machines that others use. Bounded staleness lets no worker get more than k batches ahead of the slowest: it evens out what moves, and
comes down to the pace of the slowest where that stays so, like DDP. So do rounds of equal shares (`parameter_server`, `allreduce`). In
those of `load_balanced_sgd` the straggler gets fewer rows; how evenly the workers compute is told as the least over the most time that one
did.

Everyone trains the same network from the same start on the digits with plain SGD and 64 rows per worker per step. The learning rate of
each contestant is the one of the grid with which it was fastest, with one seed and the straggler that stays. The parameters are
looked at from outside 20 times a second; the loss is that of all training rows, and time counts from the first batch.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from _measure import ONE_THREAD, arguments, interleave, median, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import torch
from _contest import Contest, OurRun, our_run, torch_run, write_rows
from _straggling import Judge

import aimass
from aimass.core.errors import TrainingError
from aimass.training.strategy import STRATEGIES

NUM_WORKERS = 4
NORMAL, SLOW = 6.0, 18.0
SHAPE = {**{str(worker): NORMAL for worker in range(NUM_WORKERS - 1)}, str(NUM_WORKERS - 1): SLOW}
CONTEST = Contest(hidden=(512, 256), batch_size=64, outputs=10, optimizer="sgd", slow=SHAPE, shows=True)
OURS: dict[str, dict[str, Any]] = {
    "async_sgd": {"name": "async_sgd"},
    "parameter_server, staleness=8": {"name": "parameter_server", "staleness": 8},
    "parameter_server": {"name": "parameter_server"},
    "allreduce": {"name": "allreduce"},
    "load_balanced_sgd": {"name": "load_balanced_sgd"},
}
DDP = "torch DDP"
STRAGGLERS = {"stays": 0.0, "moves": 0.25}
RATES = (0.3, 0.6, 1.0, 1.5, 2.0)
TARGET = 0.02
_TUNING_S, _LIMIT_S = 12.0, 30.0


@dataclass(frozen=True)
class Trial:
    """One contestant, trained once.

    Args:
        contest, data: what it trains.
        name: of the contestant.
        evenness: filled where shares follow the workers' speeds: the least over the most time that a worker of a run computed.
    """

    contest: Contest
    data: aimass.data.Dataset
    name: str
    evenness: list[float] = field(default_factory=list)

    def time_to_target(self, rate: float, seed: int, moves_s: float, limit_s: float = _LIMIT_S) -> float:
        """Seconds."""
        contest = replace(self.contest, learning_rate=rate, seed=seed, moves_s=moves_s)
        judge = Judge(contest, self.data, TARGET)
        training = (
            torch_run(contest, NUM_WORKERS, group=True) if self.name == DDP else our_run(contest, self.data, NUM_WORKERS, OURS[self.name])
        )
        with suppress(TrainingError), training as run:  # it diverged
            took_s = judge.time_to_target(run, limit_s)
            if isinstance(run, OurRun) and (shares := run.trainer.counters.shares):
                busy_s = [share["busy_s"] for share in shares]
                self.evenness.append(min(busy_s) / max(busy_s))
            return took_s
        return float("inf")


def rows_of(found: dict[str, list[float]], rates: dict[str, float]) -> list[dict[str, str]]:
    """The table: a row a contestant and straggler."""
    rows = []
    for name, values in found.items():
        contestant, straggler = name.rsplit(", ", 1)
        against = found[f"{DDP}, {straggler}"]
        rows.append(
            {
                "the straggler": straggler,
                "": contestant,
                "learning rate": f"{rates[contestant]:g}",
                f"s to a loss of {TARGET:g}": f"{median(values):.2f}",
                "least": f"{min(values):.2f}",
                "most": f"{max(values):.2f}",
                "× as fast as DDP": f"{median(against) / median(values):.2f}",
                "n": str(len(values)),
            }
        )
    return rows


def main() -> None:
    """Choose each contestant's learning rate, measure everyone in turns and print the table."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    seeds, grid = (1, RATES[:1]) if options.quick else (3, RATES)
    data = aimass.data.load("digits")
    ours = [name for name, strategy in OURS.items() if strategy["name"] in STRATEGIES.names()]
    with tempfile.TemporaryDirectory() as folder:
        contest = replace(CONTEST, rows=write_rows(data, Path(folder)))
        trials = {name: Trial(contest, data, name) for name in (DDP, *ours)}
        tuned = {name: {rate: trial.time_to_target(rate, 0, 0.0, _TUNING_S) for rate in grid} for name, trial in trials.items()}
        rates = {name: min(times, key=lambda rate: times[rate]) for name, times in tuned.items()}
        found: dict[str, list[float]] = {}
        for seed in range(1, seeds + 1):
            samples = {
                f"{name}, {straggler}": partial(trial.time_to_target, rates[name], seed, moves_s)
                for straggler, moves_s in STRAGGLERS.items()
                for name, trial in trials.items()
            }
            for name, times in interleave(samples, 1).items():
                found.setdefault(name, []).extend(times)
    notes = [
        f"digits, MLP {CONTEST.hidden}, SGD, {NUM_WORKERS} workers of {CONTEST.batch_size} rows a step, {NORMAL:g} × as long as on a core,",
        f"the straggler {SLOW:g} ×; medians of n seeds; learning rates from {grid}; at most {_LIMIT_S:g} s",
        *(
            f"{name}: the least over the most time that a worker computed is {median(t.evenness):.2f}"
            for name, t in trials.items()
            if t.evenness
        ),
    ]
    show("straggler", notes, rows_of(found, rates), {"seconds": found, "tuning": tuned, "rates": rates}, as_json=options.json)


if __name__ == "__main__":
    main()
