"""Every setting of a training run as a dotted option, read from `TrainConfig`: what it is called, what it holds, what it is for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import getdoc
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from aimass.core.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from aimass.core.config import Config

META = "aimass.settings"
_YES_OR_NO = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting.

    Args:
        name: dotted (`"optimizer.lr"`).
        types: what it may hold: the leaves of its annotation.
        default: as people write it; empty where there is none.
        help: what it is for.
        of: the plugins that it belongs to (`"mlp"`), by commas; empty where it belongs to every run.
    """

    name: str
    types: frozenset[type]
    default: str
    help: str
    of: str = ""

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off, so that its name alone says "on"."""
        return self.types <= {bool, NoneType}

    def read(self, text: str) -> Any:
        """What stands on the command line as what the setting holds. Numbers stay text: the setting's own type reads them.

        >>> table()["optimizer.betas"].read("0.8,0.99"), table()["clip.norm"].read("none")
        (['0.8', '0.99'], None)
        """
        if NoneType in self.types and text.lower() in ("none", "null"):
            return None
        if tuple in self.types and dict not in self.types:
            return [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
        if dict in self.types:
            try:
                return json.loads(text)
            except ValueError:
                if str in self.types:
                    return text
                raise UsageError(f"--{self.name} {text!r} is not JSON; write it like --{self.name} '{{\"rho\": 0.9}}'") from None
        return text


def lift(args: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take the dotted settings out of a command line.

    Returns:
        what is left, and the settings by name. `--batch_size` and the like become `--batch-size`.

    Raises:
        UsageError: there is no such setting, or its value is missing.

    >>> lift(["digits", "--optimizer.lr", "0.1", "--max_steps=5", "--optimizer.nesterov"])
    (['digits', '--max-steps=5'], {'optimizer.lr': '0.1', 'optimizer.nesterov': 'true'})
    """
    kept: list[str] = []
    found: dict[str, Any] = {}
    waiting = list(reversed(args))
    while waiting:
        arg = waiting.pop()
        name, equals, value = arg.partition("=")
        if arg == "--":
            return [*kept, arg, *reversed(waiting)], found
        if not name.startswith("--"):
            kept.append(arg)
        elif "." not in name:
            kept.append(name.replace("_", "-") + equals + value)
        else:
            setting = look_up(name[2:].replace("-", "_"))
            if not equals:
                value = _next_value(setting, waiting)
            found[setting.name] = setting.read(value)
    return kept, found


def _next_value(setting: Setting, waiting: list[str]) -> str:
    if setting.is_switch and not (waiting and waiting[-1].lower() in _YES_OR_NO):
        return "true"
    if not waiting or waiting[-1].startswith("--"):
        raise UsageError(f"--{setting.name} needs a value: {setting.help}")
    return waiting.pop()


def look_up(name: str) -> Setting:
    """The setting behind a dotted name. One inside a setting that holds a dictionary is made up as it is asked for.

    Raises:
        UsageError: there is none; the message names those beside it.
    """
    known = table()
    if name in ("model.name", "strategy.name"):
        name = name.removesuffix(".name")
    if name in known:
        return known[name]
    parent = name.rpartition(".")[0]
    if parent in known and dict in known[parent].types:
        return Setting(name=name, types=frozenset({dict}), default="", help=known[parent].help)
    beside = [other for other in known if other.startswith(f"{parent}.")]
    raise unknown_name("setting", name, beside or {other.partition(".")[0] for other in known})


def with_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Add the default name of a model and a strategy of which only a field was given.

    >>> with_names({"model.hidden": "8", "workers": 2, "strategy.atomic": "false"})
    {'model': 'mlp', 'strategy': 'async_sgd', 'model.hidden': '8', 'workers': 2, 'strategy.atomic': 'false'}
    """
    from aimass.training.config import TrainConfig

    default = TrainConfig.parse({"workers": settings.get("workers", 0)})
    names = {"model": default.model.name, "strategy": default.strategy.name}
    needed = {kind: name for kind, name in names.items() if any(given.startswith(f"{kind}.") for given in settings)}
    return {**needed, **settings}


# ------------------------------------------------------------------------------------------------- read from TrainConfig


def table() -> dict[str, Setting]:
    """Every setting by its dotted name, those of all models and strategies among them."""
    from aimass.models.family import FAMILIES
    from aimass.training.config import TrainConfig
    from aimass.training.strategy import STRATEGIES

    found: dict[str, Setting] = {}
    plugins = {
        "model": {name: FAMILIES.load(name).config for name in FAMILIES.names()},
        "strategy": {name: STRATEGIES.load(name).config_class for name in STRATEGIES.names()},
    }
    for setting in _settings(TrainConfig):
        found.setdefault(setting.name, setting)
        for plugin, config in plugins.get(setting.name, {}).items():
            for own in _settings(config, f"{setting.name}.", of=plugin):
                if own.name != f"{setting.name}.name":
                    known = found.setdefault(own.name, own)
                    if known is not own:
                        default = known.default if own.default == known.default else f"by {setting.name}"
                        found[own.name] = replace(known, of=f"{known.of}, {plugin}", default=default)
    return found


def _settings(config: type[Config], prefix: str = "", of: str = "") -> Iterator[Setting]:
    from aimass.core.config import Config

    helps = argument_helps(config)
    for name, field in config.model_fields.items():
        default = field.get_default(call_default_factory=True) if not field.is_required() else None
        types = _leaves(field.annotation)
        inner = next((leaf for leaf in types if issubclass(leaf, Config) and leaf.model_fields.keys() - {"name"}), None)
        if inner is not None and prefix + name not in ("model", "strategy"):
            below = _settings(inner, f"{prefix}{name}.", of=of)
            yield from (_switched_off(one) for one in below) if NoneType in types and default is None else below
        else:
            yield Setting(name=prefix + name, types=types, default=_written(default), help=helps.get(name, ""), of=of)


def _switched_off(setting: Setting) -> Setting:
    """A setting of a group that is not there by default: naming one switches it on."""
    if not setting.name.endswith(".name"):
        return setting
    group = setting.name.removesuffix(".name")
    names = setting.help.rstrip(".")
    return replace(setting, default="none", help=f"{names}. There is none unless you ask for one: --{group} NAME.")


def _leaves(annotation: Any) -> frozenset[type]:
    """The classes in an annotation: of `Annotated[float, ...] | None` they are float and NoneType."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and origin is None:
        return frozenset({annotation})
    if isinstance(origin, type) and issubclass(origin, (tuple, dict, list)):
        return frozenset({origin})
    args = get_args(annotation)[:1] if hasattr(annotation, "__metadata__") else get_args(annotation)
    return frozenset(leaf for arg in args for leaf in (_leaves(arg) if not isinstance(arg, str | int) else {type(arg)}))


def _written(value: Any) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(getattr(value, "name", value))


def argument_helps(documented: object) -> dict[str, str]:
    """What a docstring's `Args:` say about each name.

    >>> argument_helps(Setting)["default"]
    'as people write it; empty where there is none.'
    """
    _, _, section = (getdoc(documented) or "").partition("Args:\n")
    section = re.split(r"\n\S|\n\n", section)[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
