"""Finding a plugin by its name: one file each, imported only when asked for.

A kind of plugin is a package. A file's stem is the plugin's name, and the file holds one class named in `PLUGIN`. Other
names that people arrive with stand in the file as `ALIASES = ("ap_sgd", ...)`; they are read from the source text, so that
looking for one imports nothing else. Other distributions add theirs by entry points in the group `aimass.<kind>`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aimass.core.errors import unknown_name


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of plugin.

    Args:
        name: what one is called in a message (`"strategy"`).
        package: where the files lie (`"aimass.training.strategies"`).
        group: the entry-point group that other packages use (`"aimass.strategies"`).
    """

    name: str
    package: str
    group: str

    def names(self) -> list[str]:
        """Every canonical name, without importing any of them."""
        return sorted({*self._files(), *self._entry_points()})

    def own_names(self) -> list[str]:
        """The canonical names of those that come with this package."""
        return sorted(self._files())

    def canonical(self, name: str) -> str:
        """The file's name behind a name or an alias. Hyphens and capitals do not matter.

        Raises:
            UsageError: no plugin has that name.
        """
        key = name.strip().lower().replace("-", "_").replace(" ", "_")
        if key in self._files() or key in self._entry_points():
            return key
        aliases = self.aliases()
        if key in aliases:
            return aliases[key]
        raise unknown_name(self.name, name, self.names(), also=aliases)

    def load(self, name: str) -> Any:
        """Import one plugin and return what its file exports as `PLUGIN`."""
        key = self.canonical(name)
        if key in self._files():
            return import_module(f"{self.package}.{key}").PLUGIN
        return self._entry_points()[key].load()

    def module(self, name: str) -> str:
        """The module that holds one plugin, which is not imported."""
        key = self.canonical(name)
        return f"{self.package}.{key}" if key in self._files() else str(self._entry_points()[key].module)

    def aliases(self) -> dict[str, str]:
        """Every other name, and the canonical one that it stands for."""
        return {alias: name for name, path in self._files().items() for alias in _aliases(path)}

    def _files(self) -> dict[str, Path]:
        return _files(self.package)

    def _entry_points(self) -> dict[str, Any]:
        return {point.name: point for point in entry_points(group=self.group)}


@cache
def _files(package: str) -> dict[str, Path]:
    spec = find_spec(package)
    assert spec is not None, f"the package {package} is missing"
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    return {file.stem: file for folder in folders for file in folder.glob("*.py") if not file.stem.startswith("_")}


@cache
def _aliases(path: Path) -> tuple[str, ...]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "ALIASES" for target in node.targets):
            return tuple(alias.lower().replace("-", "_").replace(" ", "_") for alias in ast.literal_eval(node.value))
    return ()
