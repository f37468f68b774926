"""In which type a module computes. p, g, the optimizer's states, the module's buffers, its norms and its loss are float32 in any case.

bf16 is `torch.autocast` over float32 tensors: matrix products and convolutions take bfloat16 copies of what they are given. The other
way, a module whose tensors are bfloat16 copies of p, gives the same gradients where both work, and takes 2 to 15% less time on a CPU;
but it rounds norms, buffers and gradients too, and modules that mix in a float32 tensor of their own fail. See benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aimass.models.devices import random_states, set_random_states

if TYPE_CHECKING:
    from aimass.data.batch import Batch
    from aimass.models.learner import Learner

PRECISIONS = ("float32", "bf16")
WORTH_IT = 1.1
"""How many times as fast as float32 bf16 must be for `auto` to choose it."""

_WARM_STEPS = 2
_LEAST_STEPS, _MOST_STEPS = 3, 25
_MEASURING_S = 0.5


class Bf16:
    """A context in which a module computes in bfloat16 where that pays, and its norms in float32.

    Args:
        module: the one that computes. Its norms get hooks, which `remove` takes away again.
        device: where it does.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.autocast = torch.autocast(device.type, dtype=torch.bfloat16)
        norms = [part for part in module.modules() if "Norm" in type(part).__name__]
        self._hooks = [norm.register_forward_pre_hook(_in_float32) for norm in norms]

    def remove(self) -> None:
        """Leave the module as it was."""
        for hook in self._hooks:
            hook.remove()


def _in_float32(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value for value in inputs)


def choose_precision(learner: Learner, batch: Batch) -> tuple[str, dict[str, float | None]]:
    """Measure passes in both precisions, and say which to train in: bf16 where it is at least `WORTH_IT` times as fast.

    The learner is left as it is: copies of its module compute.

    Args:
        learner: with a float32 module, on the device that counts.
        batch: rows as training will see them.

    Returns:
        the choice; and by precision the seconds of a forward and backward pass, the median of some that were taken in turns. None for
        bf16 where the module cannot compute in it, or its loss is not finite though that of float32 is.
    """
    from copy import deepcopy

    from aimass.models.learner import Learner

    random = random_states(learner.device)
    try:
        passes = {name: Learner(deepcopy(learner.module), learner.task, device=learner.device, precision=name) for name in PRECISIONS}
        if _can_bf16(passes, batch):
            times: dict[str, float | None] = {**_time(passes, batch)}
        else:
            times = {**_time({"float32": passes["float32"]}, batch), "bf16": None}
    finally:
        set_random_states(random, learner.device)
    float32_s, bf16_s = times["float32"], times["bf16"]
    is_worth_it = float32_s is not None and bf16_s is not None and float32_s >= WORTH_IT * bf16_s
    return "bf16" if is_worth_it else "float32", times


def _can_bf16(passes: Mapping[str, Learner], batch: Batch) -> bool:
    """Warm both up, and see whether bf16 gives a loss where float32 does."""
    for _ in range(_WARM_STEPS):
        full = passes["float32"].gradient(batch)[0]
        try:
            half = passes["bf16"].gradient(batch)[0]
        except RuntimeError:  # PyTorch's kind for an operation that it does not have in this type
            return False
    return isfinite(half) or not isfinite(full)


def _time(passes: Mapping[str, Learner], batch: Batch) -> dict[str, float]:
    samples: dict[str, list[float]] = {name: [] for name in passes}
    end = perf_counter() + _MEASURING_S
    for step in range(_MOST_STEPS):
        if step >= _LEAST_STEPS and perf_counter() > end:
            break
        for name, one in passes.items():
            start = perf_counter()
            one.gradient(batch)
            samples[name].append(perf_counter() - start)
    return {name: median(values) for name, values in samples.items()}
