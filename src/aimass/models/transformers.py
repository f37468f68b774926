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


class Past:
    """The keys and values of the places that a block has seen: (R, H, T, D / H) each.

    Args:
        context: how many places there are at most.
    """

    def __init__(self, context: int) -> None:
        self._context, self._length = context, 0
        self._keys, self._values = torch.empty(0), torch.empty(0)

    def add(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep those of the next places too.

        Returns:
            those of all places until now.
        """
        if not self._length:
            rows, heads, _, size = keys.shape
            self._keys, self._values = (keys.new_empty(rows, heads, self._context, size) for _ in range(2))
        start, self._length = self._length, self._length + keys.shape[2]
        self._keys[:, :, start : self._length] = keys
        self._values[:, :, start : self._length] = values
        return self._keys[:, :, : self._length], self._values[:, :, : self._length]


class Embedding(nn.Module):
    """Bytes and their places as vectors."""

    def __init__(self, width: int, context: int, dropout: float) -> None:
        super().__init__()
        self.byte = nn.Embedding(NUM_BYTES, width)
        self.place = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, numbers: Tensor, symbols_RT: Tensor, first: int = 0) -> Tensor:
        """(R, T, D) of bytes (R, T) from a place on; `numbers`, of which text has none, are not looked at."""
        places = torch.arange(first, first + symbols_RT.shape[1], device=symbols_RT.device)
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

    def forward(self, x_RTD: Tensor, past: Past | None = None) -> Tensor:
        """(R, T, D) of (R, T, D). No place sees one behind it; a single one sees the past too, and whatever comes is added to that."""
        x_RTD = x_RTD + self._drop(self.attended(self._attend(self.query_key_value(self.attention_norm(x_RTD)), past)))
        return x_RTD + self._drop(self.narrow(F.gelu(self.widen(self.forward_norm(x_RTD)))))

    def _attend(self, together: Tensor, past: Past | None) -> Tensor:
        rows, length, _ = together.shape
        query, key, value = together.view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (R, H, T, D / H)
        if past is not None:
            key, value = past.add(key, value)
        dropped = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=length > 1, dropout_p=dropped)
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

    def follow(self, context: int) -> Follower:
        """Begin to go on with a text.

        Args:
            context: how many of its last bytes are looked at, at most as many as the network can.
        """
        return Follower(self, context)

    def pieces(self) -> list[nn.Module]:
        """The embedding, the blocks and the head. The weights of a byte are in the first and in the last: one tensor where `tied`."""
        return [self.embedding, *self.blocks, self.head]


class Follower:
    """Goes with a text that grows by a byte at a time, and says what may come next: what its blocks found at earlier places is kept.

    So a byte costs a pass of one place, which attends to those before. Once the text is longer than the context, each byte moves the
    window, and every byte in it to another place; as places are learned, nothing that was found before holds there, and all of the
    window goes through the network again.

    Args:
        network: what goes on with the text.
        context: how many of its last bytes are looked at.

    >>> network = TransformerNetwork(layers=1, heads=2, width=8, context=16)
    >>> follower = network.follow(16)
    >>> [tuple(follower.logits(text).shape) for text in (bytearray(b"ab"), bytearray(b"abc"))]
    [(256,), (256,)]
    """

    def __init__(self, network: TransformerNetwork, context: int) -> None:
        self._network, self._context = network, context
        self._seen = 0
        self._pasts: list[Past] = []

    def logits(self, text: bytearray) -> Tensor:
        """Logits (V,) of the byte after a text: the first one, or that of before with a byte more."""
        is_next = 0 < self._seen == len(text) - 1 < self._context
        if not is_next:
            self._pasts = [Past(self._context) for _ in self._network.blocks]
        new = text[-1:] if is_next else text[-self._context :]
        first, self._seen = self._seen if is_next else 0, len(text)
        network, device = self._network, self._network.embedding.byte.weight.device
        symbols_RT = torch.frombuffer(new, dtype=torch.uint8)[None].to(device)
        x_RTD = network.embedding(torch.empty(1, 0, device=device), symbols_RT, first)
        for block, past in zip(network.blocks, self._pasts, strict=True):
            x_RTD = block(x_RTD, past)
        logits: Tensor = network.head(x_RTD[:, -1:])[0, 0]
        return logits
