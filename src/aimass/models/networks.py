"""The networks of the built-in families.

Each is called as `network(numbers)`, or `network(numbers, categories)` where it was built with categorical columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class LinearNetwork(nn.Module):
    """W·x + b, and one row of weights for each category of each column. All zero at first.

    Args:
        num_numbers: numbers per row.
        cardinalities: how many ids each categorical column has.
        num_outputs: outputs per row.

    >>> LinearNetwork(3, (4, 2), 1)(torch.ones(5, 3), torch.zeros(5, 2, dtype=torch.int64)).shape
    torch.Size([5, 1])
    """

    first_ids: Tensor

    def __init__(self, num_numbers: int, cardinalities: Sequence[int], num_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_outputs, num_numbers))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        if cardinalities:
            # One table for all columns, so that a row costs one look-up however many columns there are.
            self.categories = nn.Parameter(torch.zeros(sum(cardinalities), num_outputs))
            self.register_buffer("first_ids", torch.tensor([0, *accumulate(cardinalities)][:-1]), persistent=False)

    def forward(self, numbers: Tensor, categories: Tensor | None = None) -> Tensor:
        """Outputs (rows, num_outputs) of numbers (rows, num_numbers) and category ids (rows, num_categories)."""
        outputs = F.linear(numbers, self.weight, self.bias)
        if categories is None:
            return outputs
        return outputs + F.embedding_bag(categories + self.first_ids, self.categories, mode="sum")

    def pieces(self) -> list[nn.Module]:
        """Itself: there is nothing to cut."""
        return [self]


class MLPNetwork(nn.Module):
    """Numbers and embedded categories, side by side, through hidden layers.

    Args:
        num_numbers: numbers per row.
        embeddings: for each categorical column its cardinality and how many numbers stand for a category.
        num_outputs: outputs per row.
        hidden: the width of each hidden layer.
        activation: `relu`, `gelu`, `silu` or `tanh`.
        dropout: the share of hidden values left out in training.
        layer_norm: normalise each hidden layer before its activation.

    >>> MLPNetwork(3, [(4, 2)], 2, hidden=(8,))(torch.ones(5, 3), torch.zeros(5, 1, dtype=torch.int64)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        num_numbers: int,
        embeddings: Sequence[tuple[int, int]],
        num_outputs: int,
        *,
        hidden: Sequence[int] = (128, 64),
        activation: str = "relu",
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(cardinality, dim) for cardinality, dim in embeddings)
        widths = [num_numbers + sum(dim for _, dim in embeddings), *hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers.append(nn.Linear(width_in, width_out))
            if layer_norm:
                layers.append(nn.LayerNorm(width_out))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], num_outputs))

    def forward(self, numbers: Tensor, categories: Tensor | None = None) -> Tensor:
        """Outputs (rows, num_outputs) of numbers (rows, num_numbers) and category ids (rows, num_categories)."""
        if categories is None:
            outputs: Tensor = self.layers(numbers)
            return outputs
        embedded = [embedding(ids) for embedding, ids in zip(self.embeddings, categories.unbind(dim=1), strict=True)]
        outputs = self.layers(torch.cat([numbers, *embedded], dim=1))
        return outputs

    def pieces(self) -> list[nn.Module]:
        """Its layers, behind the embeddings where there are any."""
        return [*([_Embedded(self.embeddings)] if len(self.embeddings) else []), *self.layers]


class _Embedded(nn.Module):
    """Numbers and embedded categories, side by side."""

    def __init__(self, embeddings: nn.ModuleList) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        embedded = [embedding(ids) for embedding, ids in zip(self.embeddings, categories.unbind(dim=1), strict=True)]
        return torch.cat([numbers, *embedded], dim=1)
