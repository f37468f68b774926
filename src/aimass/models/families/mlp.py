"""The multilayer perceptron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from aimass.core.config import numbers_in
from aimass.models.family import Family, FamilyConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

ALIASES = ("dnn", "neural_network", "feedforward")


class MLPConfig(FamilyConfig):
    """Hidden layers between the inputs and the outputs.

    Args:
        hidden: the width of each hidden layer. `"128,64"` is understood, and a single number is one layer.
        activation: what follows each hidden layer.
        dropout: the share of hidden values that a training step leaves out.
        layer_norm: normalise each hidden layer before its activation (Ba et al., 2016).
        embedding_dim: numbers per category; by default half its column's cardinality, at most 50.
    """

    name: Literal["mlp"] = "mlp"
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (128, 64)
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    layer_norm: bool = False
    embedding_dim: Annotated[int, Field(ge=1)] | None = None

    @field_validator("hidden", mode="before")
    @classmethod
    def _read_widths(cls, value: Any) -> Any:
        return numbers_in(value)


class MLP(Family):
    """Numbers and embedded categories through hidden layers."""

    config = MLPConfig

    def build(self, config: MLPConfig, num_numbers: int, cardinalities: tuple[int, ...], num_outputs: int) -> nn.Module:
        from aimass.models.networks import MLPNetwork

        dims = [config.embedding_dim or min(50, (cardinality + 1) // 2) for cardinality in cardinalities]
        return MLPNetwork(
            num_numbers,
            list(zip(cardinalities, dims, strict=True)),
            num_outputs,
            hidden=config.hidden,
            activation=config.activation,
            dropout=config.dropout,
            layer_norm=config.layer_norm,
        )

    def grow(self, small: nn.Module, large: nn.Module, generator: torch.Generator) -> None:
        from aimass.models.networks import MLPNetwork
        from aimass.models.transfer.growing import grow_layers

        assert isinstance(small, MLPNetwork), "it was built by this family"
        assert isinstance(large, MLPNetwork), "it was built by this family"
        grow_layers(small, large, generator)


PLUGIN = MLP()
