"""The module's buffers, which every worker keeps for itself: running statistics are averaged, counts come from the newest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from aimass.training.worker import BUFFERED

if TYPE_CHECKING:
    from aimass.models.learner import Learner
    from aimass.parameters.shared_memory import SharedMemoryServer


def gather_buffers(learner: Learner, server: SharedMemoryServer, integers: Mapping[str, Any]) -> None:
    """Bring the workers' buffers into the driver's module.

        b = Σ rows_i b_i / Σ rows_i    for floating-point buffers, over the workers that have reported any

    Args:
        learner: the driver's.
        server: whose slots hold the float buffers, and how many rows each has seen.
        integers: the other buffers, by name, as the last worker told them.
    """
    layout = server.layout
    if layout.num_buffers:
        rows = [server.words[layout.slot(slot) + BUFFERED] for slot in range(layout.num_slots)]
        if sum(rows):
            parts = [server.buffers(slot) * (count / sum(rows)) for slot, count in enumerate(rows)]
            learner.set_float_buffers(torch.stack(parts).sum(0))
    if integers:
        known = learner.integer_buffers()
        learner.set_integer_buffers({**known, **{name: torch.tensor(value, dtype=known[name].dtype) for name, value in integers.items()}})
