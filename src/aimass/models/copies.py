"""What a module holds where p itself cannot serve it: copies of p and g on another device, or of another type.

A GPU copies fastest, and beside the host's own work, from and to pinned memory. So where p or g lies in memory that is not
pinned, as a shared block's, it goes through a pinned vector: the host's copy there is short against the way to the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from aimass.models.manifest import Entry, Manifest


@dataclass(frozen=True)
class Stretch:
    """`p[start:stop]`, whose tensors have one type, as the module holds it: on its device, in its type."""

    start: int
    stop: int
    parameters: Tensor
    gradient: Tensor

    def entries(self, manifest: Manifest) -> Iterator[tuple[Entry, Tensor, Tensor]]:
        """Each tensor that lies here, with its parts of `parameters` and `gradient` in its shape."""
        for entry in manifest.entries:
            if self.start <= entry.offset and entry.offset + entry.size <= self.stop:
                part = slice(entry.offset - self.start, entry.offset - self.start + entry.size)
                yield entry, self.parameters[part].view(entry.shape), self.gradient[part].view(entry.shape)


class Copies:
    """The stretches of a module, between p and g on the host and the module on its device.

    Args:
        manifest: where each tensor lies in p, and its type.
        device: the module's.
        parameters: p. Shape (num_parameters,), float32, on the CPU.
        gradient: g, alike.
    """

    def __init__(self, manifest: Manifest, device: torch.device, parameters: Tensor, gradient: Tensor) -> None:
        self._p, self._g = parameters, gradient
        self._on_gpu = device.type == "cuda"
        self._p_pinned, self._g_pinned = (_pinned(vector) if self._on_gpu else vector for vector in (parameters, gradient))
        self.stretches = [
            Stretch(start, stop, *(torch.zeros(stop - start, dtype=getattr(torch, dtype), device=device) for _ in range(2)))
            for start, stop, dtype in _stretches(manifest)
        ]

    @staticmethod
    def are_needed(manifest: Manifest, device: torch.device) -> bool:
        """Whether a module cannot have its tensors in p and g themselves."""
        return device.type != "cpu" or any(entry.dtype != "float32" for entry in manifest.entries if entry.size)

    def load(self) -> None:
        """Bring p to the module."""
        if self._p_pinned is not self._p:
            self._p_pinned.copy_(self._p)
        for stretch in self.stretches:
            stretch.parameters.copy_(self._p_pinned[stretch.start : stretch.stop], non_blocking=True)

    def zero_gradient(self) -> None:
        """Forget the gradient that the module holds."""
        for stretch in self.stretches:
            stretch.gradient.zero_()

    def collect(self, loss: Tensor) -> float:
        """Bring the module's gradient into g, and its loss here, waiting once for the device."""
        for stretch in self.stretches:
            self._g_pinned[stretch.start : stretch.stop].copy_(stretch.gradient, non_blocking=self._on_gpu)
        value = loss.item()  # it waits for all that was asked of this stream before: the gradient is here too
        if self._g_pinned is not self._g:
            self._g.copy_(self._g_pinned)
        return value


def _pinned(vector: Tensor) -> Tensor:
    """The vector itself where it is pinned, or a pinned one like it."""
    return vector if vector.is_pinned() else torch.empty(vector.shape, dtype=vector.dtype, pin_memory=True)


def _stretches(manifest: Manifest) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    for entry in manifest.entries:
        stop = entry.offset + entry.size
        if found and found[-1][2] == entry.dtype:
            found[-1] = (found[-1][0], stop, entry.dtype)
        elif entry.size:
            found.append((entry.offset, stop, entry.dtype))
    return found
