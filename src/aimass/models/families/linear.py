"""Linear, logistic and softmax regression: which of them, the task says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aimass.models.family import Family, FamilyConfig

if TYPE_CHECKING:
    from torch import nn

ALIASES = ("logistic", "logistic_regression", "linear_regression", "softmax", "softmax_regression")


class LinearConfig(FamilyConfig):
    """A linear model has nothing to set."""

    name: Literal["linear"] = "linear"


class Linear(Family):
    """outputs = W·numbers + Σ over columns of U[category] + b, from zero."""

    config = LinearConfig

    def build(self, config: LinearConfig, num_numbers: int, cardinalities: tuple[int, ...], num_outputs: int) -> nn.Module:
        from aimass.models.networks import LinearNetwork

        return LinearNetwork(num_numbers, cardinalities, num_outputs)


PLUGIN = Linear()
