"""Several models of one family that answer as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from aimass.core.errors import UsageError
from aimass.data.text import TASK
from aimass.models.config import CUSTOM, ModelConfig, build_module, parse_model
from aimass.models.family import FAMILIES, Family, FamilyConfig

if TYPE_CHECKING:
    from torch import nn

    from aimass.data.encoder import Encoder

ALIASES = ("committee", "集成", "集成模型")


class EnsembleConfig(FamilyConfig):
    """Models of the same settings, each with weights of its own.

    Args:
        member: the settings of each model.
        models: how many there are.
        combine: how they answer as one: by the `average` of their probabilities or numbers, or by a `vote` for a class.
        task: what they answer: `binary`, `multiclass` or `regression`. The data say it.
    """

    name: Literal["ensemble"] = "ensemble"
    member: ModelConfig = Field(default_factory=lambda: parse_model("mlp"))
    models: Annotated[int, Field(ge=2, le=1000)] = 5
    combine: Literal["average", "vote"] = "average"
    task: Literal["binary", "multiclass", "regression"] | None = None

    @field_validator("member")
    @classmethod
    def _can_be_built(cls, member: FamilyConfig) -> FamilyConfig:
        if member.name in ("ensemble", CUSTOM):
            raise UsageError(f"an ensemble is made of models of a family that is built from settings, and {member.name!r} is none of these")
        if FAMILIES.load(member.name).takes == "text":
            raise UsageError(
                f"an ensemble averages numbers or votes for classes, and the model {member.name!r} answers by text, so it cannot be a "
                "member; train it by another strategy, such as async_sgd, or make the ensemble of models of classes or numbers, such as mlp"
            )
        return member


class Ensemble(Family):
    """Members side by side."""

    config = EnsembleConfig

    def settle(self, config: EnsembleConfig, encoder: Encoder) -> EnsembleConfig:
        if encoder.task == TASK:
            raise UsageError(
                "an ensemble averages numbers or votes for classes, and text has neither; "
                "train model='transformer' by another strategy, such as async_sgd, or use other data"
            )
        super().settle(config, encoder)
        if encoder.task == "regression" and config.combine == "vote":
            raise UsageError("numbers cannot be voted on; set combine='average'")
        member = FAMILIES.load(config.member.name).settle(config.member, encoder)
        return config.model_copy(update={"member": member, "task": encoder.task})

    def build(self, config: EnsembleConfig, num_numbers: int, cardinalities: tuple[int, ...], num_outputs: int) -> nn.Module:
        from aimass.models.ensembles import EnsembleNetwork

        if config.task is None:
            raise UsageError("an ensemble needs to know what its members answer; set task to binary, multiclass or regression")
        members = [build_module(config.member, num_numbers, cardinalities, num_outputs) for _ in range(config.models)]
        return EnsembleNetwork(members, config.task, config.combine)


PLUGIN = Ensemble()
