"""What bf16 saves, and what it costs: a forward and backward pass in float32 and in bf16, against plain PyTorch; accuracy on the digits.

    python precision.py [--quick] [--json]

Each pass ends with the loss and the whole gradient on the host, in float32, as training needs them. The plain loops keep the model
where it computes; on a GPU ours brings p there and g back in every pass. "Cast copies" is a module whose own tensors are bfloat16.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

from _measure import ONE_THREAD, arguments, interleave, median, show, timed

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import aimass
from aimass.models.config import build_module, parse_model
from aimass.models.learner import Learner
from aimass.models.tasks import build_task

NUM_CLASSES = 10
_SAMPLE_S = 0.1
_SEEDS = 5


@dataclass(frozen=True)
class Case:
    """One network, and the rows that it sees in a pass."""

    hidden: tuple[int, ...]
    rows: int
    num_numbers: int = 64
    layer_norm: bool = False

    def module(self) -> nn.Module:
        """The network, the same each time."""
        torch.manual_seed(0)
        model = {"name": "mlp", "hidden": list(self.hidden), "layer_norm": self.layer_norm}
        return build_module(parse_model(model), self.num_numbers, (), NUM_CLASSES)

    def batch(self) -> dict[str, Any]:
        """Random rows, the same each time."""
        generator = torch.Generator().manual_seed(0)
        numbers = torch.randn(self.rows, self.num_numbers, generator=generator)
        targets = torch.randint(0, NUM_CLASSES, (self.rows,), generator=generator)
        return {"inputs": {"numbers": numbers}, "targets": targets, "rows": torch.arange(self.rows), "weights": None}


CASES = [Case((64,), 32), Case((256, 256), 64), Case((1024, 1024), 64), Case((1024, 1024), 64, layer_norm=True), Case((1024, 1024), 512)]


class PlainLoop:
    """What people write by hand: the batch and the model lie where they compute."""

    def __init__(self, case: Case, device: str, *, bf16: bool) -> None:
        batch = case.batch()
        self._module = case.module().to(device)
        self._numbers, self._targets = batch["inputs"]["numbers"].to(device), batch["targets"].to(device)
        self._autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=bf16)

    def __call__(self) -> tuple[float, None]:
        """One pass."""
        for parameter in self._module.parameters():
            parameter.grad = None
        with self._autocast:
            outputs = self._module(self._numbers)
        loss = F.cross_entropy(outputs.float(), self._targets)
        loss.backward()
        return loss.item(), None


def contestants(case: Case, device: str) -> dict[str, Callable[[], tuple[float, Tensor | None]]]:
    """Passes by name."""
    task, batch = build_task("multiclass"), case.batch()
    learners = {
        "ours, float32": Learner(case.module(), task, device=device),
        "ours, bf16": Learner(case.module(), task, device=device, precision="bf16"),
        "cast copies": Learner(deepcopy(case.module()).bfloat16(), task, device=device),
    }
    return {
        "plain, float32": PlainLoop(case, device, bf16=False),
        "plain, autocast": PlainLoop(case, device, bf16=True),
        **{name: partial(learner.gradient, batch) for name, learner in learners.items()},
    }


def measure(case: Case, device: str, rounds: int) -> dict[str, Any]:
    """Interleaved samples of one case, in seconds a pass, and how far each gradient is from that of float32."""
    passes = contestants(case, device)
    gradients = {name: one()[1] for name, one in passes.items()}
    exact = gradients["ours, float32"]
    assert exact is not None, "ours gives its gradient"
    times = max(1, round(_SAMPLE_S / timed(passes["plain, float32"], 3)))
    found = interleave({name: partial(timed, one, times) for name, one in passes.items()}, rounds)
    error = {name: ((g - exact).norm() / exact.norm()).item() for name, g in gradients.items() if g is not None}
    facts = {"hidden": list(case.hidden), "rows": case.rows, "layer_norm": case.layer_norm}
    return {**facts, "device": device, "pass_s": found, "gradient_error": error}


def accuracies(seeds: int) -> dict[str, list[float]]:
    """Accuracy on the test rows of the digits, by precision, for some seeds."""
    data = aimass.data.load("digits")
    found: dict[str, list[float]] = {"float32": [], "bf16": []}
    for seed in range(seeds):
        for precision, values in found.items():
            with tempfile.TemporaryDirectory() as home:
                run = aimass.train(data, precision=precision, epochs=15, seed=seed, home=home).wait()
                values.append(run.model.evaluate(data.test)["accuracy"])
    return found


def rows_of(figures: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The table: a row a contestant a case."""
    rows = []
    for found in figures:
        base = found["pass_s"]["ours, float32"]
        for name, values in found["pass_s"].items():
            rows.append(
                {
                    "hidden": ",".join(map(str, found["hidden"])) + (", norm" if found["layer_norm"] else ""),
                    "rows": str(found["rows"]),
                    "on": found["device"],
                    "": name,
                    "ms a pass": f"{median(values) * 1e3:.3f}",
                    "× ours, float32": f"{median([full / one for full, one in zip(base, values, strict=True)]):.2f}",
                    "gradient's error": f"{found['gradient_error'][name]:.2%}" if name in found["gradient_error"] else "",
                    "n": str(len(values)),
                }
            )
    return rows


def main() -> None:
    """Measure every case and print the table."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rounds = 3 if options.quick else 11
    figures = [measure(case, device, rounds) for device in devices for case in (CASES[:2] if options.quick else CASES)]
    accuracy = accuracies(1 if options.quick else _SEEDS)
    notes = [
        "ratios are medians of n interleaved pairs, above 1 where faster; errors are relative to the gradient of float32;",
        "accuracy on the digits: " + ", ".join(f"{name} {sum(v) / len(v):.4f} (n={len(v)})" for name, v in accuracy.items()),
    ]
    show("precision", notes, rows_of(figures), {"cases": figures, "accuracy": accuracy}, as_json=options.json)


if __name__ == "__main__":
    main()
