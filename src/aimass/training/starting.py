"""Which family a run has that begins with another model: its own settings', or that model's. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aimass.core.errors import UsageError
from aimass.models.config import CustomConfig

if TYPE_CHECKING:
    from aimass.models.family import FamilyConfig


def takes_family(settings: Mapping[str, Any]) -> bool:
    """Whether a run that begins with another model has that one's family and sizes: its settings name none, and it does not grow.

    Args:
        settings: as people write them.

    >>> takes_family({"freeze": "layers.0"}), takes_family({"model.hidden": 8}), takes_family({"grow": True})
    (True, False, False)
    """
    return not any(name.split(".")[0] == "model" for name in settings) and settings.get("grow") in (None, False)


def taken_family(config: FamilyConfig, name: str) -> FamilyConfig:
    """The settings of a model, for another that begins with it.

    Args:
        config: its settings.
        name: what people call it.

    Raises:
        UsageError: it is a module that somebody brought, and no settings build it.
    """
    if isinstance(config, CustomConfig):
        raise UsageError(
            f"{name} is a module of your own ({config.module}), which no settings build; pass model=MyModule(), or name a family"
        )
    return config
