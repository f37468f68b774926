"""Steps a second of the optimizers that PyTorch lacks, against Keras's Ftrl and torch's own, on the same vector of 10⁶ elements.

    python optimizers.py [--quick] [--json]

Each contestant steps on the same gradient, with one thread, and is timed by the CPU's time, in which other work on the machine counts
for nothing. "Update" is what the parameter server calls on a slice, "class" the `torch.optim.Optimizer` of ours around it. Before anything
is timed, our FTRL has to equal Keras's after ten steps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from _measure import ONE_THREAD, arguments, interleave, median, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported
os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch
from torch import Tensor

from aimass.optim import AdagradDA, Ftrl, ProximalSGD
from aimass.optim.config import OptimizerConfig
from aimass.optim.update import build_update

SIZE = 10**6
L1 = 0.001
_SAMPLE_S = 0.15


def random(seed: int, size: int) -> Tensor:
    """A vector, the same each time."""
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


class OurUpdate:
    """What the parameter server calls, on the whole vector at once."""

    def __init__(self, size: int, **settings: Any) -> None:
        config = OptimizerConfig(**settings)
        self._update, self._lr, self._step = build_update(config), config.learning_rate, 0
        self.p, self.gradient = random(1, size), random(2, size)
        self._states = [torch.full((size,), self._update.initial.get(name, 0.0)) for name in self._update.states]

    def __call__(self) -> None:
        """One step."""
        self._step += 1
        self._update.apply(self.p, self.gradient, self._states, self._step, self._lr, 0.0)


class TorchClass:
    """A `torch.optim.Optimizer`, ours or PyTorch's."""

    def __init__(self, size: int, kind: type[torch.optim.Optimizer], **settings: Any) -> None:
        self.p = torch.nn.Parameter(random(1, size))
        self.p.grad = random(2, size)
        self._optimizer: Any = kind([self.p], **settings)

    def __call__(self) -> None:
        """One step."""
        self._optimizer.step()


class KerasClass:
    """Keras's Ftrl on its torch backend."""

    def __init__(self, size: int, **settings: Any) -> None:
        self.p = keras.Variable(random(1, size))
        self._gradient = random(2, size)
        self._optimizer = keras.optimizers.Ftrl(**settings)
        self._optimizer.build([self.p])

    def __call__(self) -> None:
        """One step."""
        with torch.no_grad():
            self._optimizer.apply([self._gradient], [self.p])


def contestants(size: int) -> dict[str, Any]:
    """One step of each, by name; those that compute the same stand together."""
    return {
        "ftrl, update": OurUpdate(size, name="ftrl", lr=0.1, l1=L1),
        "ftrl, class": TorchClass(size, Ftrl, lr=0.1, l1=L1),
        "keras Ftrl": KerasClass(size, learning_rate=0.1, l1_regularization_strength=L1),
        "adagrad_da, update": OurUpdate(size, name="adagrad_da", l1=L1),
        "adagrad_da, class": TorchClass(size, AdagradDA, l1=L1),
        "adagrad, update": OurUpdate(size, name="adagrad"),
        "torch Adagrad": TorchClass(size, torch.optim.Adagrad),
        "torch Adagrad, fused": TorchClass(size, torch.optim.Adagrad, fused=True),
        "proximal_sgd, update": OurUpdate(size, name="proximal_sgd", l1=L1),
        "proximal_sgd, class": TorchClass(size, ProximalSGD, l1=L1),
        "torch SGD, fused": TorchClass(size, torch.optim.SGD, lr=0.01, fused=True),
    }


def check(steps: dict[str, Any]) -> float:
    """Ten steps of ours and of Keras's, and how far apart they are at most, over 1 + |p|: both round in float32.

    Raises:
        SystemExit: too far to be the same optimizer.
    """
    for name in ("ftrl, update", "ftrl, class", "keras Ftrl"):
        for _ in range(10):
            steps[name]()
    theirs = steps["keras Ftrl"].p.value.detach()
    ours = [steps[name].p.detach() for name in ("ftrl, update", "ftrl, class")]
    apart = max(((p - theirs).abs() / (1 + theirs.abs())).max().item() for p in ours)
    if apart > 1e-6:
        raise SystemExit(f"our ftrl is {apart:.1e} from Keras's; they were to be the same")
    return apart


def cpu_s(step: Callable[[], object], times: int) -> float:
    """Seconds of the CPU that one step takes, over some steps."""
    start = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - start) / times


def samples(steps: dict[str, Any]) -> dict[str, Callable[[], float]]:
    """What times some steps of each, so many that a sample takes long enough."""
    return {name: partial(cpu_s, step, max(3, round(_SAMPLE_S / cpu_s(step, 3)))) for name, step in steps.items()}


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    steps = contestants(SIZE)
    apart = check(steps)
    found = interleave(samples(steps), 3 if options.quick else 15)
    rate = {name: 1 / median(values) for name, values in found.items()}
    rows = [
        {
            "": name,
            "steps/s": f"{value:,.0f}",
            "× keras Ftrl": f"{value / rate['keras Ftrl']:.2f}",
            "× torch Adagrad": f"{value / rate['torch Adagrad']:.2f}",
        }
        for name, value in rate.items()
    ]
    notes = [
        f"{SIZE:,} elements in float32, one thread; medians of {len(found['keras Ftrl'])} interleaved samples.",
        f"keras {keras.__version__}; ftrl is within {apart:.1e} of it after ten steps.",
    ]
    figures = {"size": SIZE, "step_s": found, "steps_per_s": rate, "apart": apart, "keras": keras.__version__}
    show("optimizers", notes, rows, figures, as_json=options.json)


if __name__ == "__main__":
    main()
