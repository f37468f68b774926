"""What training by `aimass.train` costs over a plain PyTorch loop: `workers=0` and `workers=1`, one thread each.

    python overhead.py [--quick] [--json] [--optimizer adam]

The plain loop has its batches ready as tensors, steps `torch.optim` with its fused kernels, and looks at every loss. Ours
gathers rows by leases, screens gradients, counts, and evaluates each epoch on no rows. Both see the same batches.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from _measure import ONE_THREAD, arguments, interleave, median, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import numpy as np
import torch

import aimass
from aimass.models.config import build_module, parse_model
from aimass.training.leases.plan import LeasePlan

NUM_COLUMNS = 64
BATCH_SIZE = 64
BATCHES_PER_EPOCH = 500
_WIDTHS = {"0.3 ms": (64,), "1 ms": (256, 256), "3 ms": (512, 512), "10 ms": (1024, 1024)}
_OURS: dict[str, dict[str, Any]] = {
    "workers=0": {"workers": 0},
    "workers=1": {"workers": 1},
    "workers=1, not atomic": {"workers": 1, "strategy": {"name": "async_sgd", "atomic": False}},
}
_RATE = 1e-3
_WARM_STEPS = 20


@dataclass(frozen=True)
class Case:
    """One network, and for how long each contestant trains it."""

    name: str
    hidden: tuple[int, ...]
    sample_s: float


class PlainLoop:
    """What people write by hand."""

    def __init__(self, data: aimass.data.Dataset, hidden: tuple[int, ...], optimizer: str) -> None:
        rows, encoded = len(data.train), data.train.encoded
        plan = LeasePlan(num_rows=rows, batch_size=BATCH_SIZE, batches_per_lease=BATCHES_PER_EPOCH, seed=0, total_batches=None)
        batches = torch.from_numpy(plan.rows(0)).split(BATCH_SIZE)
        numbers, targets = torch.from_numpy(encoded.numbers), torch.from_numpy(encoded.targets)
        self._batches = [(numbers[rows].contiguous(), targets[rows].contiguous()) for rows in batches]
        torch.manual_seed(0)
        self._module = build_module(parse_model({"name": "mlp", "hidden": hidden}), NUM_COLUMNS, (), 1)
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
        self._optimizer = kind(self._module.parameters(), lr=_RATE, fused=True)
        self._loss = torch.nn.MSELoss()
        self._at = 0
        self.train(_WARM_STEPS)

    def train(self, steps: int) -> float:
        """Seconds a step."""
        module, optimizer, loss_of, batches, at, total = self._module, self._optimizer, self._loss, self._batches, self._at, 0.0
        start = time.perf_counter()
        for number in range(at, at + steps):
            numbers, targets = batches[number % len(batches)]
            optimizer.zero_grad()
            loss = loss_of(module(numbers).squeeze(1), targets)
            loss.backward()
            optimizer.step()
            total += loss.item()
        self._at = at + steps
        assert total == total, "the loss is not a number"
        return (time.perf_counter() - start) / steps


def train_ours(data: aimass.data.Dataset, hidden: tuple[int, ...], optimizer: str, steps: int, **settings: Any) -> float:
    """Seconds a step between the run's first and its last word on how it stands, which leaves out the start and the end."""
    with tempfile.TemporaryDirectory() as home:
        run = aimass.train(
            data,
            model={"name": "mlp", "hidden": list(hidden)},
            **settings,
            optimizer={"name": optimizer, "lr": _RATE},
            batch_size=BATCH_SIZE,
            max_steps=steps,
            checkpoint={"every": 3600},
            seed=0,
            home=home,
        ).wait()
        events = [event for event in run.events() if event.type == "progress" and 0 < event.data["step"] < steps]
    if len(events) < 2:
        raise SystemExit("the run was too short to be measured; let each sample take longer")
    first, last = events[0], events[-1]
    return (last.time - first.time) / (last.data["step"] - first.data["step"])


def make_data() -> aimass.data.Dataset:
    """Random rows, all of them to train on."""
    generator = np.random.default_rng(0)
    rows = BATCHES_PER_EPOCH * BATCH_SIZE
    columns = {f"x{i}": generator.normal(size=rows).astype(np.float32) for i in range(NUM_COLUMNS)}
    return aimass.data.load({**columns, "y": generator.normal(size=rows)}, "y", task="regression", split=(1.0, 0.0, 0.0))


def measure(case: Case, data: aimass.data.Dataset, optimizer: str, rounds: int) -> dict[str, Any]:
    """Interleaved samples of one case, in seconds a step."""
    plain = PlainLoop(data, case.hidden, optimizer)
    steps = max(20, int(case.sample_s / plain.train(_WARM_STEPS)))
    samples = {"plain loop": partial(plain.train, steps)}
    for name, settings in _OURS.items():
        samples[name] = partial(train_ours, data, case.hidden, optimizer, steps, **settings)
    found = interleave(samples, rounds)
    overheads = {
        name: [ours / theirs - 1 for ours, theirs in zip(values, found["plain loop"], strict=True)]
        for name, values in found.items()
        if name != "plain loop"
    }
    return {"case": case.name, "hidden": list(case.hidden), "step_s": found, "overhead": overheads}


def rows_of(figures: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The table: a row a contestant a case."""
    rows = []
    for found in figures:
        for name, values in found["step_s"].items():
            over = found["overhead"].get(name)
            rows.append(
                {
                    "hidden": ",".join(map(str, found["hidden"])),
                    "": name,
                    "ms a step": f"{median(values) * 1e3:.3f}",
                    "steps/s": f"{1 / median(values):,.0f}",
                    "over the plain loop": f"{median(over):+.1%}" if over else "",
                    "least": f"{min(over):+.1%}" if over else "",
                    "most": f"{max(over):+.1%}" if over else "",
                    "n": str(len(values)),
                }
            )
    return rows


def main() -> None:
    """Measure every width and print the table."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam", help="which optimizer both use")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sample_s, rounds = (2.0, 2) if options.quick else (2.5, 5)
    cases = [Case(name, hidden, sample_s) for name, hidden in _WIDTHS.items()]
    data = make_data()
    figures = [measure(case, data, options.optimizer, rounds) for case in (cases[:2] if options.quick else cases)]
    notes = [
        f"{options.optimizer}, batches of {BATCH_SIZE} rows of {NUM_COLUMNS} numbers; overheads are medians of n interleaved pairs;",
        "the plain loop uses torch.optim with fused=True; one thread a process",
    ]
    show("overhead", notes, rows_of(figures), {"optimizer": options.optimizer, "cases": figures}, as_json=options.json)


if __name__ == "__main__":
    main()
