"""How the learning rate changes over the steps: lr_t = lr · factor(t)."""

from __future__ import annotations

import math
from collections.abc import Callable

from aimass.core.errors import UsageError
from aimass.optim.config import ScheduleConfig


def factor(config: ScheduleConfig, step: int, total_steps: int | None = None) -> float:
    """What the learning rate is multiplied with at a step.

    With W warm-up steps and t = step − W, which counts from the end of the warm-up:

        warm-up         (step + 1) / W          while step < W
        constant        1
        cosine          min + (1 − min) · (1 + cos(π · t / (total_steps − W))) / 2, and min afterwards
        step            gamma ^ ⌊t / step_size⌋
        inverse_sqrt    √(max(W, 1) / (step + 1))

    Args:
        config: which schedule.
        step: how many steps were taken before this one: 0, 1, ...
        total_steps: how many there will be, where that is known.

    Raises:
        UsageError: `cosine` is asked for and the end is not known.

    >>> [round(factor(ScheduleConfig(name="cosine"), step, 4), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]

    Source: Loshchilov and Hutter, SGDR, ICLR 2017 (cosine); Vaswani et al., Attention is all you need, 2017 (inverse_sqrt).
    """
    warmup = config.warmup_steps
    if config.name == "cosine" and total_steps is None:
        raise UsageError("the cosine schedule needs to know where training ends; give epochs or max_steps, or choose another schedule")
    if step < warmup:
        return (step + 1) / warmup
    after = step - warmup
    match config.name:
        case "cosine":
            assert total_steps is not None
            progress = min(after / max(total_steps - warmup, 1), 1.0)
            return config.min_factor + (1 - config.min_factor) * (1 + math.cos(math.pi * progress)) / 2
        case "step":
            return float(config.gamma ** (after // config.step_size))
        case "inverse_sqrt":
            return math.sqrt(max(warmup, 1) / (step + 1))
    return 1.0


def rate_of(learning_rate: float, schedule: ScheduleConfig, total_steps: int | None) -> Callable[[int], float]:
    """The learning rate as a function of the steps taken before.

    >>> rate_of(0.5, ScheduleConfig(name="step", step_size=10, gamma=0.5), None)(10)
    0.25
    """
    if schedule.name == "constant" and not schedule.warmup_steps:
        return lambda step: learning_rate
    return lambda step: learning_rate * factor(schedule, step, total_steps)
