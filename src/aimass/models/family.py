"""What a model family is, and where families are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from aimass.core.config import Config
from aimass.core.errors import UsageError
from aimass.core.plugins import Kind
from aimass.data.text import TASK

if TYPE_CHECKING:
    import torch
    from torch import nn

    from aimass.data.encoder import Encoder

FAMILIES = Kind(name="model", package="aimass.models.families", group="aimass.families")
"""One file each in `aimass.models.families`, exporting its `Family` as `PLUGIN`."""


class FamilyConfig(Config):
    """The base of every family's settings: they say which family they are of."""

    name: str


class Family(ABC):
    """A kind of network that is built from settings and the shape of the data.

    Attributes:
        config: the class of its settings.
        takes: the data it is for: `"rows"` of numbers and categories, `"images"`, or `"text"`.
    """

    config: ClassVar[type[FamilyConfig]]
    takes: ClassVar[str] = "rows"

    def settle(self, config: Any, encoder: Encoder) -> Any:
        """The settings with what the data decide filled in, before anything is built.

        Args:
            config: settings, of the class `config`.
            encoder: of the data.

        Raises:
            UsageError: the family is for other data.
        """
        if (encoder.task == TASK) != (self.takes == "text"):
            if encoder.task == TASK:
                raise UsageError(
                    f"the model {config.name!r} is not for text; set model to 'transformer', which learns it, or use other data"
                )
            raise UsageError(
                f"the model {config.name!r} learns text, and the data have the target {encoder.target!r} to predict; "
                "set model to mlp, cnn or linear, or give a .txt file without a target"
            )
        return config

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
            float32 (rows, num_numbers) and int64 (rows, num_categories) give (rows, num_outputs); of text, no numbers and uint8
            (rows, context) give (rows, context, num_outputs). Its method `pieces()` gives the modules that, one after the other, do
            what it does; a network may be cut between any two of them.
        """

    def grow(self, small: nn.Module, large: nn.Module, generator: torch.Generator) -> None:
        """Overwrite a larger network so that it answers as a smaller one of the same family does.

        Args:
            small: what was trained.
            large: freshly built.
            generator: for what is drawn at random.

        Raises:
            UsageError: this family, or these two, cannot be grown.
        """
        raise UsageError(f"a {type(large).__name__} cannot be grown; start without grow, and the tensors that fit are copied")
