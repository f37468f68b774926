"""The network of an ensemble: members side by side, whose outputs become one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST_SHARE = 1e-6  # of votes, so that the logarithm of no vote is a number


class EnsembleNetwork(nn.Module):
    """Several networks that answer as one.

        average     the mean of the members' numbers, or the logits of the mean of their probabilities
        vote        the logits of the shares of members that choose each class

    Args:
        members: called alike, each giving (rows, num_outputs).
        task: `binary`, `multiclass` or `regression`.
        combine: `average` or `vote`. While it learns without `sizes`, it is always the average, which has a gradient.

    Attributes:
        sizes: while it learns, how many of the rows, which come one member's after the other's, are whose; the outputs stay in that
            order. None gives all rows to all members.

    >>> network = EnsembleNetwork([nn.Linear(2, 3), nn.Linear(2, 3)], "multiclass", "average")
    >>> network(torch.ones(4, 2)).exp().sum(1).round(decimals=4)
    tensor([1., 1., 1., 1.], grad_fn=<RoundBackward1>)
    """

    def __init__(self, members: Sequence[nn.Module], task: str, combine: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.task, self.combine = task, combine
        self.sizes: list[int] | None = None

    def forward(self, numbers: Tensor, categories: Tensor | None = None) -> Tensor:
        """Outputs (rows, num_outputs) of numbers (rows, num_numbers) and category ids (rows, num_categories)."""
        if not self.training or self.sizes is None:
            return self._as_one(torch.stack([_ask(member, numbers, categories) for member in self.members]))
        parts = zip(
            self.members,
            torch.split(numbers, self.sizes),
            [None] * len(self.sizes) if categories is None else torch.split(categories, self.sizes),
            strict=True,
        )
        return torch.cat([_ask(member, own, ids) for member, own, ids in parts if len(own)])

    def _as_one(self, outputs: Tensor) -> Tensor:
        """Outputs (rows, num_outputs) of outputs (num_members, rows, num_outputs)."""
        if self.task == "regression":
            return outputs.mean(0)
        if self.combine == "vote" and not self.training:
            return _logits_of_votes(outputs)
        if self.task == "binary":
            return F.logsigmoid(outputs).logsumexp(0) - F.logsigmoid(-outputs).logsumexp(0)
        return F.log_softmax(outputs, dim=-1).logsumexp(0) - math.log(len(outputs))

    def pieces(self) -> list[nn.Module]:
        """Itself: members lie side by side, and nothing of them comes after the other."""
        return [self]


def _ask(member: nn.Module, numbers: Tensor, categories: Tensor | None) -> Tensor:
    outputs: Tensor = member(numbers) if categories is None else member(numbers, categories)
    return outputs


def _logits_of_votes(outputs: Tensor) -> Tensor:
    """Of outputs (num_members, rows, num_outputs). With as many votes for both, the class that comes first has it."""
    if outputs.shape[-1] == 1:
        share = (outputs > 0).to(outputs.dtype).mean(0).clamp(_LEAST_SHARE, 1 - _LEAST_SHARE)
        return share.logit()
    votes = F.one_hot(outputs.argmax(-1), outputs.shape[-1]).to(outputs.dtype).mean(0)
    return votes.clamp_min(_LEAST_SHARE).log()
