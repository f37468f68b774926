"""The network of the `transformer` family.

Legend: R rows, T bytes of context, D width, H heads, V = 256 bytes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aimass.data.text import NUM_BYTES

_INITIAL_STD = 0.02


class Embedding(nn.Module):
    """Bytes and their places as vectors."""

    def __init__(self, width: int, context: int, dropout: float) -> None:
        super().__init__()
        self.byte = nn.Embedding(NUM_BYTES, width)
        self.place = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, numbers: Tensor, symbols_RT: Tensor) -> Tensor:
        """(R, T, D) of bytes (R, T); `numbers`, of which text has none, are not looked at."""
        places = torch.arange(symbols_RT.shape[1], device=symbols_RT.device)
        embedded: Tensor = self.dropout(self.byte(symbols_RT.long()) + self.place(places))
        return embedded


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.forward_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x_RTD: Tensor) -> Tensor:
        """(R, T, D) of (R, T, D). No place sees one behind it."""
        x_RTD = x_RTD + self._drop(self.attended(self._attend(self.query_key_value(self.attention_norm(x_RTD)))))
        return x_RTD + self._drop(self.narrow(F.gelu(self.widen(self.forward_norm(x_RTD)))))

    def _attend(self, together: Tensor) -> Tensor:
        rows, length, _ = together.shape
        query, key, value = together.view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (R, H, T, D / H)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        return mixed.transpose(1, 2).reshape(rows, length, -1)

    def _drop(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)


class Head(nn.Module):
    """A logit for each byte that may come next."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.next = nn.Linear(width, NUM_BYTES, bias=False)

    def forward(self, x_RTD: Tensor) -> Tensor:
        """(R, T, V) of (R, T, D)."""
        logits: Tensor = self.next(self.norm(x_RTD))
        return logits


class TransformerNetwork(nn.Module):
    """A causal language model: from the bytes up to each place, logits of the byte after it.

    Args:
        layers: how many blocks.
        heads: attention heads of each; they divide the width.
        width: numbers that stand for a byte.
        context: the most bytes that it sees at once.
        dropout: the share of values left out in training.
        tied: whether a byte is read and told by the same weights (Press and Wolf, 2017).

    >>> network = TransformerNetwork(layers=1, heads=2, width=8, context=16)
    >>> network(torch.empty(3, 0), torch.zeros(3, 16, dtype=torch.uint8)).shape
    torch.Size([3, 16, 256])

    Source: Radford et al., Language models are unsupervised multitask learners, 2019: pre-norm blocks, learned places, and the
    projections that end a block smaller by √(2 · layers) at first.
    """

    def __init__(
        self, *, layers: int = 4, heads: int = 4, width: int = 128, context: int = 128, dropout: float = 0.0, tied: bool = True
    ) -> None:
        super().__init__()
        self.context = context
        self.embedding = Embedding(width, context, dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.head = Head(width)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                ends = name.endswith(("attended.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=_INITIAL_STD / math.sqrt(2 * layers) if ends else _INITIAL_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if tied:
            self.head.next.weight = self.embedding.byte.weight

    def forward(self, numbers: Tensor, symbols_RT: Tensor) -> Tensor:
        """Logits (R, T, V) of bytes (R, T), T at most `context`; `numbers` (R, 0) has nothing in it."""
        x_RTD = self.embedding(numbers, symbols_RT)
        for block in self.blocks:
            x_RTD = block(x_RTD)
        logits: Tensor = self.head(x_RTD)
        return logits

    def pieces(self) -> list[nn.Module]:
        """The embedding, the blocks and the head. The weights of a byte are in the first and in the last: one tensor where `tied`."""
        return [self.embedding, *self.blocks, self.head]
