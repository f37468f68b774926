"""What a member of a group has beside p, averaged over the group after each exchange, and given back to all.

    s = Σ wᵢ sᵢ / Σ wᵢ    for each state sᵢ of members' own optimizers, for the steps these have taken, and for the module's statistics

The mean has two sides: the next one is written beside the last, and one word says which is the newest. So a supernode that dies meanwhile
leaves the last one whole. Whoever begins a share, new members among them, begins it with the newest mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from aimass.parameters.groups import GroupServer
from aimass.parameters.views.members import AVERAGED, MEAN_STEPS, OWN_STEPS

if TYPE_CHECKING:
    from aimass.optim.local import LocalOptimizer
    from aimass.training.workers.worker import Worker


class States:
    """One member's view of its own states and of the group's.

    Args:
        worker: whose module's running statistics they are.
        optimizer: of its own, if it has one.
    """

    def __init__(self, worker: Worker, optimizer: LocalOptimizer | None) -> None:
        assert isinstance(worker.server, GroupServer)
        self._worker, self._server, self._optimizer = worker, worker.server, optimizer
        layout, group = worker.server.layout, worker.server.group
        self._words, self._at = worker.server.words, layout.slot(layout.group_slot(group))
        self._own_at = layout.slot(worker.slot)
        self._own = worker.server.own_states(worker.slot)
        self._means = [worker.server.mean_states(side) for side in (0, 1)]
        self._of = {slot: worker.server.own_states(slot) for slot in range(layout.num_workers)}
        self._statistics = worker.server.buffers(layout.group_slot(group))
        self._summed = torch.zeros(layout.num_buffers)
        self._weight, self._steps = 0.0, 0.0

    @property
    def size_bytes(self) -> int:
        """What a member sends of its states, and what it gets back."""
        return len(self._own) * self._worker.vector_bytes + 4 * len(self._summed)

    def begin(self) -> None:
        """Take over the newest mean; where there is none yet, begin as the optimizer does."""
        averaged, optimizer = self._words[self._at + AVERAGED], self._optimizer
        if averaged and len(self._summed):
            self._worker.learner.set_float_buffers(self._statistics)
        if optimizer is None:
            return
        optimizer.reset()
        if averaged:
            for state, mean in zip(optimizer.states, self._means[averaged % 2], strict=True):
                state.copy_(mean)
            optimizer.num_steps = self._words[self._at + MEAN_STEPS]

    def show(self) -> None:
        """Show the supernode what this member's states have become."""
        self._worker.publish_buffers()
        if self._optimizer is not None:
            for shown, state in zip(self._own, self._optimizer.states, strict=True):
                shown.copy_(state)
            self._words[self._own_at + OWN_STEPS] = self._optimizer.num_steps

    # ---------------------------------------------------------------------------------------------------- the supernode

    def clear(self) -> None:
        """Begin a sum. Nothing that members read is touched before it is `settle`d."""
        self._weight = self._steps = 0.0
        self._summed.zero_()
        for mean in self._next:
            mean.zero_()

    def add(self, slot: int, weight: float) -> None:
        """Add what a member has shown, which has a share of this weight."""
        self._weight += weight
        if len(self._summed):
            self._summed.add_(self._server.buffers(slot), alpha=weight)
        for mean, state in zip(self._next, self._of[slot], strict=True):
            mean.add_(state, alpha=weight)
        self._steps += weight * self._words[self._server.layout.slot(slot) + OWN_STEPS]

    def settle(self) -> None:
        """Make the mean of what was added the newest, unless it is of nothing."""
        if not self._weight:
            return
        for mean in self._next:
            mean.div_(self._weight)
        if len(self._summed):
            self._statistics.copy_(self._summed.div_(self._weight))
        self._words[self._at + MEAN_STEPS] = round(self._steps / self._weight)
        self._words[self._at + AVERAGED] += 1

    @property
    def _next(self) -> list[torch.Tensor]:
        return self._means[(self._words[self._at + AVERAGED] + 1) % 2]
