"""Settings of what is learnt beside frozen weights. Nothing here imports torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from aimass.core.config import Config
from aimass.core.patterns import read_patterns


class AdapterConfig(Config):
    """Small matrices that are learnt in place of large frozen ones.

    Args:
        name: `lora`.
        rank: r, the width of the two matrices that stand for a change of a layer's weights.
        alpha: the change is scaled by alpha / rank.
        modules: which linear layers have one, by name, with `*` and `?`. All, unless set.
    """

    name: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=65536)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    modules: tuple[str, ...] = ("*",)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("modules", mode="before")
    @classmethod
    def _read_modules(cls, value: Any) -> Any:
        return read_patterns(value)
