"""The transformer: a causal language model of bytes, which goes on with a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from aimass.core.errors import UsageError
from aimass.data.text import CONTEXT, NUM_BYTES
from aimass.models.family import Family, FamilyConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

ALIASES = ("gpt", "language_model", "causal_lm", "decoder", "大语言模型", "语言模型")


class TransformerConfig(FamilyConfig):
    """Blocks of attention over the bytes before, and of a feed-forward network of four times the width.

    Args:
        layers: how many blocks.
        heads: attention heads of each block; they divide the width.
        width: numbers that stand for a byte.
        context: how many bytes it sees at once. Training cuts the text into windows of so many.
        dropout: the share of values that a training step leaves out, after each part of a block.
        tied: whether a byte is read and told by the same weights.
    """

    name: Literal["transformer"] = "transformer"
    layers: Annotated[int, Field(ge=1, le=1000)] = 4
    heads: Annotated[int, Field(ge=1)] = 4
    width: Annotated[int, Field(ge=1, le=65_536)] = 128
    context: Annotated[int, Field(ge=1, le=65_536)] = CONTEXT
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tied: bool = True

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> TransformerConfig:
        if self.width % self.heads:
            raise UsageError(f"model.width={self.width} cannot be cut into {self.heads} heads; make it a multiple of model.heads")
        return self


class Transformer(Family):
    """Bytes through pre-norm blocks; the manifest counts tied weights once."""

    config = TransformerConfig
    takes = "text"

    def build(self, config: TransformerConfig, num_numbers: int, cardinalities: tuple[int, ...], num_outputs: int) -> nn.Module:
        from aimass.models.transformers import TransformerNetwork

        if num_numbers or set(cardinalities) != {NUM_BYTES} or num_outputs != NUM_BYTES:
            raise UsageError("a transformer learns language from text; load a .txt file without a target, or use model='mlp' for a table")
        return TransformerNetwork(
            layers=config.layers,
            heads=config.heads,
            width=config.width,
            context=config.context,
            dropout=config.dropout,
            tied=config.tied,
        )

    def grow(self, small: nn.Module, large: nn.Module, generator: torch.Generator) -> None:
        from aimass.models.transfer.growing import grow_blocks
        from aimass.models.transformers import TransformerNetwork

        assert isinstance(small, TransformerNetwork), "it was built by this family"
        assert isinstance(large, TransformerNetwork), "it was built by this family"
        grow_blocks(small, large)


PLUGIN = Transformer()
