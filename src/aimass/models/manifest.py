"""The plan of p: which tensor of a module lies where in the flat vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

from aimass.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

GROUPS = ("decay", "no_decay")
"""The parameter groups in the order in which they lie in p: weights, then biases and the weights of norms."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor of the module.

    Args:
        name: what the module calls it.
        offset: where it starts in p.
        shape: its shape in the module.
        dtype: its type in the module (`"float32"`); in p it is float32.
        group: `"decay"` or `"no_decay"`.
        rate: what the learning rate is multiplied with.
    """

    name: str
    offset: int
    shape: tuple[int, ...]
    dtype: str
    group: str
    rate: float = 1.0

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Group:
    """A run of p whose tensors share their weight decay and the factor of their rate: `p[start:stop]`."""

    name: str
    start: int
    stop: int
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The trainable tensors of a module, each once, in the order of p.

    Args:
        entries: the tensors, by offset.
        aliases: further names of tied tensors, and the entry's name that each stands for.
    """

    entries: tuple[Entry, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, module: nn.Module, rate_of: Callable[[str], float] | None = None) -> Manifest:
        """Plan p for a module. Frozen parameters stay outside.

        Args:
            module: the parameters' own.
            rate_of: what the learning rate of a parameter is multiplied with, by its name; 1 where not given.

        Raises:
            UsageError: a parameter cannot lie in a float32 vector.

        >>> from torch import nn
        >>> manifest = Manifest.of(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)))
        >>> [(entry.name, entry.offset) for entry in manifest.entries]
        [('0.weight', 0), ('1.weight', 6), ('0.bias', 8), ('1.bias', 10)]
        """
        found: dict[object, list[str]] = {}
        tensors: dict[str, Tensor] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if parameter.requires_grad:
                _check(name, parameter)
                found.setdefault(_storage(parameter), []).append(name)
                tensors[name] = parameter
        norms = set(_parameters_of_norms(module))
        names = [names[0] for names in found.values()]
        group_of = {name: "no_decay" if tensors[name].ndim < 2 or name in norms else "decay" for name in names}
        entries, offset = [], 0
        rates = {name: 1.0 if rate_of is None else rate_of(name) for name in names}
        for name in sorted(names, key=lambda name: (-rates[name], GROUPS.index(group_of[name]))):
            shape, dtype = tuple(tensors[name].shape), str(tensors[name].dtype).removeprefix("torch.")
            entries.append(Entry(name=name, offset=offset, shape=shape, dtype=dtype, group=group_of[name], rate=rates[name]))
            offset += entries[-1].size
        return cls(entries=tuple(entries), aliases={alias: names[0] for names in found.values() for alias in names[1:]})

    @cached_property
    def num_parameters(self) -> int:
        """The length of p."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups that have something in them. Together they cover p."""
        groups: list[Group] = []
        for (rate, name), found in groupby((entry for entry in self.entries if entry.size), key=lambda entry: (entry.rate, entry.group)):
            own = list(found)
            groups.append(Group(name=name, start=own[0].offset, stop=own[-1].offset + own[-1].size, rate=rate))
        return tuple(groups)

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """The parts of a flat vector by name, in their shapes. They share its memory. Aliases are left out.

        Args:
            flat: p, g, an optimizer's state, ... Shape (num_parameters,).
        """
        return {entry.name: flat[entry.offset : entry.offset + entry.size].view(entry.shape) for entry in self.entries}

    def names_of(self, entry: Entry) -> Iterator[str]:
        """Every name of an entry in the module: its own, and its aliases."""
        yield entry.name
        yield from (alias for alias, name in self.aliases.items() if name == entry.name)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"entries": [{**asdict(entry), "shape": list(entry.shape)} for entry in self.entries], "aliases": dict(self.aliases)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_json`."""
        entries = tuple(Entry(**{**entry, "shape": tuple(entry["shape"])}) for entry in values["entries"])
        return cls(entries=entries, aliases=dict(values["aliases"]))


def _check(name: str, parameter: Tensor) -> None:
    from torch.nn.parameter import is_lazy

    if is_lazy(parameter):
        raise UsageError(f"the parameter {name!r} has no shape yet; run one batch through the module before training it")
    if parameter.is_meta:
        raise UsageError(f"the parameter {name!r} has no values (device 'meta'); materialize the module before training it")
    if not parameter.is_floating_point():
        raise UsageError(f"the parameter {name!r} is {parameter.dtype}; only real floating-point parameters can be trained")


def _storage(parameter: Tensor) -> object:
    """What two names of tied tensors have in common."""
    if parameter.numel() == 0:
        return id(parameter)
    return parameter.data_ptr(), tuple(parameter.shape), parameter.stride(), parameter.device


def _parameters_of_norms(module: nn.Module) -> Iterable[str]:
    for prefix, child in module.named_modules():
        if "Norm" in type(child).__name__:
            yield from (f"{prefix}.{name}" if prefix else name for name, _ in child.named_parameters(recurse=False))
