"""AI Mass: data in, a trained, versioned, served and metered model out.

>>> import aimass
>>> data = aimass.data.load("iris")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimass import data
    from aimass.client.client import AsyncClient, Client
    from aimass.core.errors import AimassError
    from aimass.models.model import Model
    from aimass.training.comparing.compare import compare
    from aimass.training.comparing.outcome import Comparison
    from aimass.training.loading import load
    from aimass.training.run import Run
    from aimass.training.train import resume, train

__version__ = "0.1.0"
__all__ = ["AimassError", "AsyncClient", "Client", "Comparison", "Model", "Run", "compare", "data", "load", "resume", "train"]

_HOMES = {
    "AimassError": "aimass.core.errors",
    "AsyncClient": "aimass.client.client",
    "Client": "aimass.client.client",
    "Comparison": "aimass.training.comparing.outcome",
    "Model": "aimass.models.model",
    "Run": "aimass.training.run",
    "compare": "aimass.training.comparing.compare",
    "load": "aimass.training.loading",
    "resume": "aimass.training.train",
    "train": "aimass.training.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: importing torch takes a second."""
    if name == "data":
        return import_module("aimass.data")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'aimass' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
