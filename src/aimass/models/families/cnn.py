"""The convolutional network, for images."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from aimass.core.config import numbers_in
from aimass.core.errors import UsageError
from aimass.models.family import Family, FamilyConfig

if TYPE_CHECKING:
    from torch import nn

    from aimass.data.encoder import Encoder

ALIASES = ("convnet", "conv_net", "convolutional", "convolutional_neural_network", "卷积神经网络", "卷积网络")

_MOST_PIXELS = 1 << 26


class CNNConfig(FamilyConfig):
    """Convolutions, each halving the image, then hidden layers.

    Args:
        channels: how many maps each convolution gives.
        kernel: the side of each convolution's window, in pixels; an odd number.
        hidden: the width of each hidden layer between the last maps and the outputs. `"128,64"` is understood.
        activation: what follows each convolution and each hidden layer.
        dropout: the share of hidden values that a training step leaves out.
        image: channels, height and width of the images; `"28x28"` is one channel. The data say it, unless their columns are pixels
            of which nobody told.
    """

    name: Literal["cnn"] = "cnn"
    channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (16, 32)
    kernel: Annotated[int, Field(ge=1, le=31)] = 3
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (128,)
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    image: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None

    @field_validator("channels", "hidden", mode="before")
    @classmethod
    def _read_widths(cls, value: Any) -> Any:
        return numbers_in(value)

    @field_validator("image", mode="before")
    @classmethod
    def _read_image(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]  # "28x28" on a command line is a list without a comma
        if isinstance(value, str):
            value = [side for side in re.split(r"[x×*,() ]+", value) if side]
        return (1, *value) if isinstance(value, (list, tuple)) and len(value) == 2 else value

    @field_validator("kernel")
    @classmethod
    def _is_odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a kernel has a pixel in its middle: give an odd number, such as 3 or 5")
        return value


class CNN(Family):
    """Images through convolutions with GroupNorm, which keeps no statistics of batches."""

    config = CNNConfig
    takes = "images"

    def settle(self, config: CNNConfig, encoder: Encoder) -> CNNConfig:
        super().settle(config, encoder)
        image = config.image or encoder.image
        if image is None:
            raise UsageError(
                f"a cnn is for images, and nothing says that these {encoder.num_numbers:,} numbers a row are one; "
                "use model='mlp', or say its shape by model.image, such as '28x28'"
            )
        _check(image, encoder.num_numbers, encoder.cardinalities)
        return config.model_copy(update={"image": image})

    def build(self, config: CNNConfig, num_numbers: int, cardinalities: tuple[int, ...], num_outputs: int) -> nn.Module:
        from aimass.models.convolutions import ConvolutionalNetwork

        if config.image is None:
            raise UsageError("a cnn needs to know the shape of its images; set image, such as '28x28' or (3, 32, 32)")
        _check(config.image, num_numbers, cardinalities)
        return ConvolutionalNetwork(
            config.image,
            num_outputs,
            channels=config.channels,
            kernel=config.kernel,
            hidden=config.hidden,
            activation=config.activation,
            dropout=config.dropout,
        )


def _check(image: tuple[int, int, int], num_numbers: int, cardinalities: tuple[int, ...]) -> None:
    channels, height, width = image
    shape = f"{channels} × {height} × {width}"
    if cardinalities:
        raise UsageError(
            f"a cnn takes images alone, and the data have {len(cardinalities)} categorical columns; ignore these, or use an mlp"
        )
    if channels * height * width != num_numbers:
        raise UsageError(
            f"images of {shape} pixels have {channels * height * width:,} numbers, and a row of the data has {num_numbers:,}; "
            "set model.image to channels, height and width of the data's images"
        )
    if num_numbers > _MOST_PIXELS:
        raise UsageError(f"images of {shape} pixels are too large for a cnn; load them with a smaller image_size")


PLUGIN = CNN()
