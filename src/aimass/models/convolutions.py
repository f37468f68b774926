"""The network of the `cnn` family."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import gcd

from torch import Tensor, nn

from aimass.models.networks import ACTIVATIONS

_MOST_GROUPS = 8
_LARGEST_SIDE = 7


class ConvolutionalNetwork(nn.Module):
    """Blocks of convolution, GroupNorm, activation and 2 × 2 maximum; then hidden layers.

    Maps that are still larger than 7 × 7 after the last block are averaged down to that, so that the first hidden layer does not
    grow with the image.

    Args:
        image: channels, height and width.
        num_outputs: outputs per row.
        channels: how many maps each block gives.
        kernel: the side of each convolution's window, in pixels; odd.
        hidden: the width of each hidden layer.
        activation: `relu`, `gelu`, `silu` or `tanh`.
        dropout: the share of hidden values left out in training.

    >>> import torch
    >>> ConvolutionalNetwork((1, 8, 8), 10)(torch.ones(5, 64)).shape
    torch.Size([5, 10])

    Source: Wu and He, Group Normalization, ECCV 2018; the rest is LeCun et al., Gradient-based learning applied to document
    recognition, 1998, as it is usual today.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        num_outputs: int,
        *,
        channels: Sequence[int] = (16, 32),
        kernel: int = 3,
        hidden: Sequence[int] = (128,),
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        maps, height, width = image
        layers: list[nn.Module] = [nn.Unflatten(1, image)]
        for maps_in, maps_out in pairwise((maps, *channels)):
            layers.append(nn.Conv2d(maps_in, maps_out, kernel, padding=kernel // 2, bias=False))  # the norm has a bias
            layers.append(nn.GroupNorm(gcd(maps_out, _MOST_GROUPS), maps_out))
            layers.append(ACTIVATIONS[activation]())
            if min(height, width) > 1:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        if max(height, width) > _LARGEST_SIDE:
            height, width = min(height, _LARGEST_SIDE), min(width, _LARGEST_SIDE)
            layers.append(nn.AdaptiveAvgPool2d((height, width)))
        self.features = nn.Sequential(*layers, nn.Flatten())
        layers = []
        widths = [channels[-1] * height * width, *hidden]
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], num_outputs))

    def forward(self, numbers: Tensor) -> Tensor:
        """Outputs (rows, num_outputs) of pixels (rows, channels · height · width)."""
        outputs: Tensor = self.head(self.features(numbers))
        return outputs

    def pieces(self) -> list[nn.Module]:
        """Its layers."""
        return [*self.features, *self.head]
