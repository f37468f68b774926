"""Keeping a gradient within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimass.optim.config import ClipConfig

if TYPE_CHECKING:
    from torch import Tensor

_EPS = 1e-6


def clip_(gradient: Tensor, config: ClipConfig) -> float | None:
    """Clip a gradient in place, by value first and then by norm.

        g ← max(−value, min(g, value));   g ← g · min(1, norm / (‖g‖₂ + 10⁻⁶))

    Args:
        gradient: the whole flat gradient. Shape (num_parameters,).
        config: the bounds; those that are None do nothing.

    Returns:
        ‖g‖₂ before it was scaled, or None where no bound on the norm is set.

    >>> import torch
    >>> g = torch.tensor([3.0, 4.0])
    >>> clip_(g, ClipConfig(norm=1.0)), g
    (5.0, tensor([0.6000, 0.8000]))
    """
    if config.value is not None:
        gradient.clamp_(-config.value, config.value)
    if config.norm is None:
        return None
    norm = float(gradient.norm())
    scale = scale_of(norm, config)
    if scale != 1.0:  # true for NaN as well, which then stays visible
        gradient.mul_(scale)
    return norm


def scale_of(norm: float, config: ClipConfig) -> float:
    """What a gradient of a norm is multiplied with: min(1, bound / (norm + 10⁻⁶)), and 1 without a bound.

    >>> scale_of(2.0, ClipConfig()), round(scale_of(2.0, ClipConfig(norm=1.0)), 3)
    (1.0, 0.5)
    """
    scale = 1.0 if config.norm is None else config.norm / (norm + _EPS)
    return 1.0 if scale >= 1.0 else scale
