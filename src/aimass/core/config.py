"""Settings: frozen values that refuse what they do not know, and say so in one sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError

from aimass.core.errors import UsageError, unknown_name


class Config(BaseModel):
    """The base of every setting: immutable, and no unknown names.

    >>> class Pump(Config):
    ...     rate: float = 1.0
    >>> Pump.parse({"rate": "fast"})
    Traceback (most recent call last):
    aimass.core.errors.UsageError: rate='fast': input should be a valid number, unable to parse string as a number
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], prefix: str = "") -> Self:
        """Build from plain values.

        Args:
            values: names and values, as from JSON, keywords or the command line.
            prefix: what stands before each name in a message (`"optimizer."`).

        Raises:
            UsageError: the first thing that is wrong, by its full dotted name.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _first_problem(error, cls, prefix) from None


def _first_problem(error: ValidationError, config: type[Config], prefix: str) -> UsageError:
    problem = error.errors()[0]
    where = prefix + ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        parents = [str(part) for part in problem["loc"][:-1]]
        return unknown_name("setting", where, [prefix + ".".join([*parents, name]) for name in _fields(config, parents)])
    reason = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if problem["type"] == "missing":
        return UsageError(f"{where} is needed")
    if _is_secret(config, [str(part) for part in problem["loc"]]):
        return UsageError(f"{where} is not one: {reason}")
    return UsageError(f"{where}={problem['input']!r}: {reason[:1].lower()}{reason[1:]}")


def _fields(config: type[Config], parents: list[str]) -> list[str]:
    """The names that settings have at a place in the tree."""
    for parent in parents:
        below = config.model_fields[parent].annotation
        if not (isinstance(below, type) and issubclass(below, Config)):
            return []
        config = below
    return list(config.model_fields)


def _is_secret(config: type[Config], path: list[str]) -> bool:
    """Whether what stands at a place in the tree must not be repeated in a message."""
    for name in path:
        field = config.model_fields.get(name)
        if field is None:
            return False
        kinds = (field.annotation, *get_args(field.annotation))
        if SecretStr in kinds:
            return True
        config = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Config)), Config)
    return False


_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: object) -> object:
    """Read a duration: a number of seconds, or a number with `s`, `m`, `h` or `d`.

    >>> seconds("5m"), seconds(2.5)
    (300.0, 2.5)
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", value)
    if match is None:
        raise ValueError("a duration is a number of seconds, or a number with s, m, h or d, such as '90s' or '2h'")
    return float(match[1]) * _UNITS_S[match[2]]


Seconds = Annotated[float, BeforeValidator(seconds)]
"""A duration in seconds, that may be written `"90s"`, `"5m"` or `"2h"`."""


def numbers_in(value: Any) -> Any:
    """Several numbers as people write them: `"128,64"`, or a single one. Anything else stays as it is.

    >>> numbers_in("128,64"), numbers_in(5), numbers_in([1, 2])
    (('128', '64'), (5,), [1, 2])
    """
    if isinstance(value, str):
        return tuple(part.strip() for part in value.strip("()[] ").split(",") if part.strip())
    return (value,) if isinstance(value, int) else value


def nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into a tree.

    >>> nest({"optimizer.lr": 0.1, "optimizer": "adam", "epochs": 3})
    {'optimizer': {'lr': 0.1, 'name': 'adam'}, 'epochs': 3}
    """
    tree: dict[str, Any] = {}
    for name, value in dotted.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            below = node.setdefault(parent, {})
            if not isinstance(below, dict):
                below = node[parent] = {"name": below}
            node = below
        if isinstance(node.get(leaf), dict):
            node[leaf].update(value if isinstance(value, dict) else {"name": value})
        else:
            node[leaf] = dict(value) if isinstance(value, dict) else value
    return tree
