"""What a model family is, and where families are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from aimass.core.config import Config
from aimass.core.plugins import Kind

if TYPE_CHECKING:
    from torch import nn

FAMILIES = Kind(name="model", package="aimass.models.families", group="aimass.families")
"""One file each in `aimass.models.families`, exporting its `Family` as `PLUGIN`."""


class FamilyConfig(Config):
    """The base of every family's settings: they say which family they are of."""

    name: str


class Family(ABC):
    """A kind of network that is built from settings and the shape of the data.

    Attributes:
        config: the class of its settings.
    """

    config: ClassVar[type[FamilyConfig]]

    @abstractmethod
    def build(self, config: Any, num_numbers: int, cardinalities: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Make the network, with weights from torch's random numbers.

        Args:
            config: settings, of the class `config`.
            num_numbers: numbers per row.
            cardinalities: how many ids each categorical column has.
            num_outputs: outputs per row.

        Returns:
            a module that is called as `module(numbers)`, or as `module(numbers, categories)` where there are categories:
            float32 (rows, num_numbers) and int64 (rows, num_categories) give (rows, num_outputs).
        """
