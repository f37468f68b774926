"""Changes in a quarter of the bytes: 8 bits a value, and a scale for each block of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 256
_LARGEST = 127


class Int8Blocks:
    """What a receiver would read of a vector that was sent as whole numbers from −127 to 127, with a scale a block.

        s_b = max |x|_b / 127,    q = round(x / s_b),    x' = s_b q,    so that |x' − x| ≤ s_b / 2

    Args:
        size: values in a vector.

    Source: Dettmers et al., 8-bit optimizers via block-wise quantization, ICLR 2022.

    >>> x = torch.tensor([1.0, -0.5, 0.004])
    >>> int8 = Int8Blocks(3)
    >>> int8.send(x), int8.num_bytes
    (tensor([ 1.0000, -0.5039,  0.0079]), 7)
    """

    def __init__(self, size: int) -> None:
        num_blocks = -(-size // BLOCK)
        padded = torch.zeros(num_blocks * BLOCK)
        self._blocks, self._values, self._padding = padded.view(num_blocks, BLOCK), padded[:size], padded[size:]
        self.num_bytes = size + 4 * num_blocks
        """What a vector takes on its way: a byte a value, and a float32 a block."""

    def send(self, vector: Tensor) -> Tensor:
        """Make a vector what its receiver reads, in place.

        Args:
            vector: x, shape (size,).
        """
        self._values.copy_(vector)
        self._padding.zero_()  # it shares a scale, which may have been no number
        scales = self._blocks.abs().amax(dim=1, keepdim=True).div_(_LARGEST)
        self._blocks.div_(scales.masked_fill(scales == 0, 1.0)).round_().mul_(scales)
        return vector.copy_(self._values)
