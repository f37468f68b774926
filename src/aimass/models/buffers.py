"""What a module keeps beside its parameters: running statistics and counts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Buffers:
    """The buffers of a module that are part of its state: floating-point ones as one flat vector, others by name.

    >>> buffers = Buffers(nn.BatchNorm1d(2))
    >>> buffers.floats(), buffers.integers()
    (tensor([0., 0., 1., 1.]), {'num_batches_tracked': tensor(0)})
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        kept = {id(value) for value in module.state_dict(keep_vars=True).values()}
        buffers = {name: buffer for name, buffer in module.named_buffers() if id(buffer) in kept}
        self._float_names = [name for name, buffer in buffers.items() if buffer.is_floating_point()]
        self._other_names = [name for name, buffer in buffers.items() if not buffer.is_floating_point()]
        self.num_floats = sum(buffers[name].numel() for name in self._float_names)

    def float_tensors(self) -> list[Tensor]:
        """The floating-point buffers themselves, in the order of `floats`."""
        return [self._module.get_buffer(name) for name in self._float_names]

    def floats(self) -> Tensor:
        """A copy of the floating-point buffers. Shape (num_floats,), float32, on the CPU."""
        if not self._float_names:
            return torch.empty(0)
        return torch.cat([self._module.get_buffer(name).detach().reshape(-1).to("cpu", torch.float32) for name in self._float_names])

    def set_floats(self, flat: Tensor) -> None:
        """Write a flat vector into the floating-point buffers. Shape (num_floats,)."""
        offset = 0
        with torch.no_grad():
            for name in self._float_names:
                buffer = self._module.get_buffer(name)
                buffer.copy_(flat[offset : offset + buffer.numel()].view(buffer.shape))
                offset += buffer.numel()

    def integers(self) -> dict[str, Tensor]:
        """Copies of the other buffers, by name, on the CPU."""
        return {name: self._module.get_buffer(name).detach().to("cpu", copy=True) for name in self._other_names}

    def set_integers(self, values: Mapping[str, Tensor]) -> None:
        """Write named values into the other buffers."""
        for name in self._other_names:
            self._module.get_buffer(name).copy_(values[name])
