"""What late gradients do to the loss, and what helps: staleness 0 to 16, compensated, scaled, bounded.

    python staleness.py [--quick] [--json] [--optimizer sgd] [--rates 0.1 0.2]

First *exactly*: τ + 1 handles on one parameter server take turns in one process, so that after the first turn each gradient is τ steps
old, and a seed gives the same figures again. Then *bounded*: real runs of `parameter_server` with `staleness=k` and four workers, one of
them three times as slow. Everyone trains the same network on the digits from the same start, on the same batches, at the same rate.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from _measure import ONE_THREAD, arguments, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import torch

import aimass
from aimass.data.batch import Batch
from aimass.models.config import build_module, parse_model
from aimass.models.learner import Learner
from aimass.models.tasks import build_task
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update
from aimass.parameters.compensation import build_compensation
from aimass.parameters.layout import Layout
from aimass.parameters.shared_memory import SharedMemoryServer
from aimass.training.leases.plan import epoch_order
from aimass.training.workers.shaping import shaped

STALENESS = (0, 1, 2, 4, 8, 16)
METHODS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "constant λ = 0.04": {"compensation": "constant"},
    "adaptive λ = 2": {"compensation": "adaptive"},
    "rate / (1 + τ)": {"scale_steps": True},
}
_MODEL = {"name": "mlp", "hidden": [64]}
_BATCH_SIZE = 32
_EPOCHS = 15
_WORKERS, _SLOW = 4, {0: 3.0}


@dataclass(frozen=True)
class Found:
    """How one training ended: the mean loss over all training rows, and the share of test rows that it gets right."""

    loss: float
    accuracy: float
    mean_staleness: float = 0.0


class Digits:
    """The data as tensors, and the learner that a seed begins with."""

    def __init__(self) -> None:
        self.data = aimass.data.load("digits")
        train, test = self.data.train.encoded, self.data.test.encoded
        self.numbers, self.targets = torch.from_numpy(train.numbers), torch.from_numpy(train.targets)
        self._tested = torch.from_numpy(test.numbers), torch.from_numpy(test.targets)

    def learner(self, seed: int) -> Learner:
        """A network at its start."""
        torch.manual_seed(seed)
        return Learner(build_module(parse_model(_MODEL), self.numbers.shape[1], (), 10), build_task("multiclass"))

    def batches(self, seed: int, epochs: int) -> Iterator[Batch]:
        """Each epoch in an order of its own."""
        for epoch in range(epochs):
            for rows in torch.from_numpy(epoch_order(len(self.numbers), seed, epoch)).split(_BATCH_SIZE):
                yield Batch(inputs={"numbers": self.numbers[rows]}, targets=self.targets[rows], rows=rows, weights=None)

    def judge(self, module: torch.nn.Module, mean_staleness: float = 0.0) -> Found:
        """A network at its end."""
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(module(self.numbers), self.targets).item()
            right = module(self._tested[0]).argmax(1) == self._tested[1]
        return Found(loss, right.float().mean().item(), mean_staleness)


def train_exactly(digits: Digits, tau: int, optimizer: str, rate: float, seed: int, epochs: int, settings: Mapping[str, Any]) -> Found:
    """Train with gradients that are all τ steps old, by handles on one server that take turns."""
    learner = digits.learner(seed)
    update, compensation = build_update(OptimizerConfig(name=optimizer)), build_compensation(settings.get("compensation"), None)
    length = learner.manifest.num_parameters
    layout = Layout(
        num_parameters=length,
        groups=((0, length),),
        states=(*update.states, *(compensation.states if compensation else ())),
        num_slots=tau + 1,
        keeps_pulled=compensation is not None,
    )
    options = {"scale_steps": settings.get("scale_steps", False), "compensation": compensation}
    first = SharedMemoryServer.create(layout, update, lambda step: rate, slot=0, **options)
    others = [SharedMemoryServer(first.memory, layout, update, lambda step: rate, slot=slot, **options) for slot in range(1, tau + 1)]
    handles = [first, *others]
    first.p.copy_(learner.parameters)
    pulled = [torch.empty(length) for _ in handles]
    clocks = [handle.pull(copy) for handle, copy in zip(handles, pulled, strict=True)]
    for step, batch in enumerate(digits.batches(seed, epochs)):
        turn = step % len(handles)
        learner.parameters.copy_(pulled[turn])
        _, gradient = learner.gradient(batch)
        handles[turn].push(gradient, clocks[turn])
        clocks[turn] = handles[turn].pull(pulled[turn])
    learner.parameters.copy_(first.p)
    return digits.judge(learner.module, tau)


def train_bounded(digits: Digits, bound: int, optimizer: str, rate: float, seed: int, epochs: int, settings: Mapping[str, Any]) -> Found:
    """A real run, in which no worker may be more than `bound` steps ahead of the slowest."""
    strategy = {"name": "parameter_server", "staleness": bound, **settings}
    chosen = {"name": optimizer, "lr": rate}
    with tempfile.TemporaryDirectory() as home, shaped(slow=_SLOW):
        run = aimass.train(
            digits.data,
            model=_MODEL,
            strategy=strategy,
            workers=_WORKERS,
            optimizer=chosen,
            batch_size=_BATCH_SIZE,
            epochs=epochs,
            seed=seed,
            home=home,
        ).wait()
        return digits.judge(run.model.module, run.metrics()["staleness_mean"])


def describe(found: Sequence[Found]) -> dict[str, str]:
    """Medians over the seeds, with the least and the most."""
    losses = [each.loss if each.loss == each.loss else float("inf") for each in found]
    return {
        "train loss": f"{statistics.median(losses):.4g}",
        "least": f"{min(losses):.4g}",
        "most": f"{max(losses):.4g}",
        "test accuracy": f"{statistics.median(each.accuracy for each in found):.3f}",
        "lowest": f"{min(each.accuracy for each in found):.3f}",
        "mean τ": f"{statistics.median(each.mean_staleness for each in found):.1f}",
    }


def main() -> None:
    """Train at every staleness by every method, and print two tables."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=("sgd", "momentum", "adam"), default="sgd", help="which optimizer everyone uses")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.2], help="learning rates")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds, staleness, epochs = (2, (0, 4), 3) if options.quick else (5, STALENESS, _EPOCHS)
    digits, figures, exact, bounded = Digits(), [], [], []
    for rate in options.rates:
        for tau in staleness:
            for name, settings in METHODS.items() if tau else [next(iter(METHODS.items()))]:
                found = [train_exactly(digits, tau, options.optimizer, rate, seed, epochs, settings) for seed in range(seeds)]
                exact.append({"rate": f"{rate:g}", "τ": str(tau), "late gradients": name, **describe(found)})
                figures.append({"part": "exact", "rate": rate, "staleness": tau, "method": name, "found": [vars(each) for each in found]})
    rate = max(options.rates)
    for bound in staleness:
        for name in ("as they are", "adaptive λ = 2") if bound else ("as they are",):
            found = [train_bounded(digits, bound, options.optimizer, rate, seed, epochs, METHODS[name]) for seed in range(seeds)]
            bounded.append({"rate": f"{rate:g}", "bound": str(bound), "late gradients": name, **describe(found)})
            figures.append({"part": "bounded", "rate": rate, "staleness": bound, "method": name, "found": [vars(each) for each in found]})
    notes = [
        f"{options.optimizer}, digits, one hidden layer of 64, batches of {_BATCH_SIZE}, {epochs} epochs; medians of {seeds} seeds;",
        "τ: each gradient is exactly so many steps old. With 0 nothing is late and all methods are the same",
    ]
    about_bounded = [
        f"real runs, {_WORKERS} workers, one 3 times as slow; bound: parameter_server with staleness=k, of which 0 goes in rounds:",
        f"{_WORKERS} batches a step, and so a quarter of the steps",
    ]
    cases = {"optimizer": options.optimizer, "cases": figures}
    show("staleness", notes, exact, cases, as_json=options.json, more=[(bounded, about_bounded)])


if __name__ == "__main__":
    main()
