"""Settings of a model: a family by name, with the family's own fields. Nothing here imports torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, SerializeAsAny

from aimass.core.errors import UsageError
from aimass.models.family import FAMILIES, FamilyConfig

if TYPE_CHECKING:
    from torch import nn

CUSTOM = "custom"


class CustomConfig(FamilyConfig):
    """A module that the caller brought. It says which class it was, for people; the class is not imported from here.

    Args:
        module: the module's class, dotted.
    """

    name: Literal["custom"] = "custom"
    module: str = ""


def parse_model(value: Any) -> FamilyConfig:
    """The settings of a model, from whatever names one.

    Args:
        value: a family's name, a mapping with `name` and the family's fields, settings, or a `torch.nn.Module`.

    Raises:
        UsageError: there is no such family, or it has no such field.

    >>> parse_model({"name": "mlp", "hidden": "32,16"}).hidden
    (32, 16)
    >>> parse_model("mpl")
    Traceback (most recent call last):
    aimass.core.errors.UsageError: there is no model 'mpl'; did you mean 'mlp'? Known: cnn, ensemble, linear, mlp, transformer
    """
    if isinstance(value, FamilyConfig):
        return value
    if is_module(value):
        return CustomConfig(module=f"{type(value).__module__}.{type(value).__qualname__}")
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise UsageError(f"model={value!r} names no model; give a name such as 'mlp', a mapping with 'name', or a torch.nn.Module")
    if value["name"] == CUSTOM:
        return CustomConfig.parse(value, "model.")
    config: type[FamilyConfig] = FAMILIES.load(value["name"]).config
    own = FAMILIES.canonical(value["name"])
    for name in value:
        if name not in config.model_fields and (having := _families_with(name)):
            raise UsageError(
                f"model.{name} is a setting of {' and '.join(having)}, and not of {own}; leave it out, or set model to "
                f"{' or '.join(map(repr, having))}"
            )
    return config.parse({**value, "name": own}, "model.")


def _families_with(setting: object) -> list[str]:
    """The families that have a setting of this name."""
    return [name for name in FAMILIES.names() if setting in FAMILIES.load(name).config.model_fields]


def is_module(value: object) -> bool:
    """Whether a value is a `torch.nn.Module`. Where torch was never imported, none is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def build_module(config: FamilyConfig, num_numbers: int, cardinalities: tuple[int, ...], num_outputs: int) -> nn.Module:
    """The network that settings describe.

    Raises:
        UsageError: the settings are of a module that the caller has to bring.
    """
    if config.name == CUSTOM:
        raise UsageError("a custom model is not built from settings; pass the torch.nn.Module itself as model=")
    family = FAMILIES.load(config.name)
    module: nn.Module = family.build(config, num_numbers, cardinalities, num_outputs)
    return module


ModelConfig = Annotated[SerializeAsAny[FamilyConfig], BeforeValidator(parse_model)]
"""The type of a field that holds a model's settings: a name, a mapping or a module is turned into the family's settings."""
