"""Optimizers that work on flat vectors in place, and what stands around them: schedules, clipping, weight decay.

`Ftrl`, `AdagradDA` and `ProximalSGD` are also there as a `torch.optim.Optimizer` each; asking for one imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimass.optim.adagrad_da import AdagradDA
    from aimass.optim.ftrl import Ftrl
    from aimass.optim.proximal_sgd import ProximalSGD

__all__ = ["AdagradDA", "Ftrl", "ProximalSGD"]

_MODULES = {"AdagradDA": "adagrad_da", "Ftrl": "ftrl", "ProximalSGD": "proximal_sgd"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
