"""The mean of what the workers of a round have put into their slots: in a fixed order, so that every process finds the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.optim.config import ClipConfig
    from aimass.parameters.views.shards import Chunk, Shard

_CLIP_EPS = 1e-6  # as in `optim.clipping`


class Mean:
    """Σ wⱼ gⱼ / Σ wⱼ, clipped as a whole.

    Args:
        clip: bounds of the mean: first of each value, then of the norm.
        longest_chunk: parameters in the longest chunk.
    """

    def __init__(self, clip: ClipConfig, longest_chunk: int) -> None:
        self._clip, self._room = clip, torch.empty(longest_chunk)

    def of(self, chunk: Chunk, shares: Sequence[tuple[int, float]], scale: float) -> Tensor:
        """The mean over a chunk, shape (chunk,). It holds until the next call.

        Args:
            chunk: of which parameters.
            shares: the slots that count, in order, and by how much each: wⱼ / Σ w.
            scale: what `norm_scale` gave.
        """
        (slot, share), *others = shares
        if share == 1.0 and not others and self._clip.value is None and scale == 1.0:
            return chunk.gradients[slot]
        mean = self._room[: len(chunk.p)]
        torch.mul(chunk.gradients[slot], share, out=mean)
        for slot, share in others:
            mean.add_(chunk.gradients[slot], alpha=share)
        if self._clip.value is not None:
            mean.clamp_(-self._clip.value, self._clip.value)
        return mean if scale == 1.0 else mean.mul_(scale)

    def norm_scale(self, shards: Sequence[Shard], shares: Sequence[tuple[int, float]]) -> float:
        """What the mean is multiplied with to keep its norm within bounds."""
        if self._clip.norm is None or not shares:
            return 1.0
        squares = 0.0
        for shard in shards:
            for chunk in shard.chunks:
                mean = self.of(chunk, shares, 1.0)
                squares += torch.dot(mean, mean).item()
        return min(1.0, self._clip.norm / (sqrt(squares) + _CLIP_EPS))
