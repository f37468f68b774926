"""The module's buffers, which every worker keeps for itself: running statistics are averaged, counts come from the newest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from aimass.training.workers.words import BUFFERED, LEAVE

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.models.learner import Learner
    from aimass.parameters.shared_memory import SharedMemoryServer


def mean_buffers(server: SharedMemoryServer) -> Tensor | None:
    """The floating-point buffers of the workers that have reported any, shape (num_buffers,); None before the first has.

        b = Σ rows_i b_i / Σ rows_i

    A worker that has left counts no longer, since its statistics grow old, unless nobody else has reported yet.
    """
    layout, words = server.layout, server.words
    if not layout.num_buffers:
        return None
    slots = [layout.slot(slot) for slot in range(layout.num_slots)]
    rows = [0 if words[at + LEAVE] else words[at + BUFFERED] for at in slots]
    if not sum(rows):
        rows = [words[at + BUFFERED] for at in slots]
    if not sum(rows):
        return None
    return torch.stack([server.buffers(slot) * (count / sum(rows)) for slot, count in enumerate(rows)]).sum(0)


def gather_buffers(learner: Learner, server: SharedMemoryServer, integers: Mapping[str, Any]) -> None:
    """Bring the workers' buffers into the driver's module.

    Args:
        learner: the driver's.
        server: whose slots hold the float buffers, and how many rows each has seen.
        integers: the other buffers, by name, as the last worker told them.
    """
    mean = mean_buffers(server)
    if mean is not None:
        learner.set_float_buffers(mean)
    if integers:
        learner.set_integer_buffers(newest_integers(learner.integer_buffers(), integers))


def newest_integers(known: Mapping[str, Tensor], told: Mapping[str, Any]) -> dict[str, Tensor]:
    """The buffers that are no averages, as the last worker told them, in their own types."""
    return {**known, **{name: torch.tensor(value, dtype=known[name].dtype) for name, value in told.items()}}
