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


class Int8Copy:
    """A receiver's copy of a vector that changes, which is sent as the difference to that copy, in 8 bits.

        h ← h + Q(x − h)

    What Q rounds away is still missing from h, and so is part of the next difference: errors do not add up.

    Args:
        int8: Q.

    >>> copy = Int8Copy(Int8Blocks(2))
    >>> copy.follow(torch.tensor([1.0, 0.3])).tolist() == [1.0, torch.tensor(0.3).item()]
    True
    >>> copy.follow(torch.tensor([2.0, 0.3]))
    tensor([2.0000, 0.3000])
    >>> copy.num_bytes
    6
    """

    def __init__(self, int8: Int8Blocks) -> None:
        self._int8, self._held = int8, torch.empty(0)
        self.num_bytes = 0
        """What the last vector took on its way: the first one comes as it is."""

    def follow(self, vector: Tensor) -> Tensor:
        """Send a vector, and return what its receiver has of it. It holds until the next call, and is not to be changed.

        Args:
            vector: x, shape (size,); changed to x − h.
        """
        if not len(self._held):
            self._held, self.num_bytes = vector.clone(), 4 * len(vector)
        else:
            self._held.add_(self._int8.send(vector.sub_(self._held)))
            self.num_bytes = self._int8.num_bytes
        return self._held
