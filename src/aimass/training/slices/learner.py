"""A model of which a worker has only a part: where its tensors lie in p, and the module without the values of the others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aimass.models.buffers import Buffers
from aimass.models.learner import Learner
from aimass.models.precision import Bf16
from aimass.training.slices.cut import pieces_of

if TYPE_CHECKING:
    from aimass.data.batch import Batch
    from aimass.models.manifest import Manifest
    from aimass.models.tasks import Task
    from aimass.parameters.slices import SliceServer
    from aimass.training.slices.cut import Slice


def without_values(module: nn.Module) -> nn.Module:
    """A copy of a module whose trainable parameters have shapes and no values. Buffers and frozen parameters keep theirs.

    >>> skeleton = without_values(nn.Linear(1000, 1000))
    >>> skeleton.weight.is_meta, tuple(skeleton.weight.shape)
    (True, (1000, 1000))
    """
    memo: dict[int, object] = {id(parameter): _meta(parameter) for parameter in module.parameters() if parameter.requires_grad}
    return deepcopy(module, memo)


def _meta(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype, device="meta"))


class SlicedLearner(Learner):
    """What a worker knows of a model that is divided.

    Args:
        module: the model, `without_values`.
        task: its loss.
        manifest: where each tensor lies in p.
        slices: what each worker has.
        server: whose block holds p.
        precision: in what it computes.
    """

    def __init__(
        self, module: nn.Module, task: Task, manifest: Manifest, slices: Sequence[Slice], server: SliceServer, precision: str
    ) -> None:
        assert server.slot is not None, "only workers have a part"
        self.device, self.module, self.task, self.manifest = torch.device("cpu"), module.train(), task, manifest
        self.slices, self.slot = slices, server.slot
        self.buffers, self._parts, self._copies = Buffers(module), list(module.modules()), None
        self.parameters, self.gradient_vector = server.p, server.gradient
        self._bf16 = Bf16(module, self.device) if precision == "bf16" else None

    @property
    def own(self) -> Slice:
        """What this worker has."""
        return self.slices[self.slot]

    def take_own(self) -> list[nn.Parameter]:
        """Give the module those of its parameters that are this worker's, as views of p, with gradients that are views of g.

        Returns:
            those that it borrows, in order: views of p too, with gradients of their own.
        """
        borrowed = {(start, stop): index for index, (start, stop, _) in enumerate(self.own.borrows)}
        found: dict[int, nn.Parameter] = {}
        for entry in self.manifest.entries:
            start, stop = entry.offset, entry.offset + entry.size
            is_own = any(low <= start and stop <= high for low, high in self.own.spans)
            if not is_own and (start, stop) not in borrowed:
                continue
            parameter = nn.Parameter(self.parameters[start:stop].view(entry.shape))
            if is_own:
                parameter.grad = self.gradient_vector[start:stop].view(entry.shape)
            else:
                parameter.grad = torch.zeros(entry.shape)
                found[borrowed[start, stop]] = parameter
            for name in self.manifest.names_of(entry):
                path, _, last = name.rpartition(".")
                setattr(self.module.get_submodule(path), last, parameter)
        return [found[index] for index in range(len(found))]

    def move_buffers(self, module: nn.Module) -> None:
        """Let a copy of the module, which computes in its place, have its buffers."""
        for name, buffer in self.module.named_buffers():
            path, _, last = name.rpartition(".")
            module.get_submodule(path)._buffers[last] = buffer

    @property
    def pieces(self) -> list[nn.Module]:
        """The pieces of the module that this worker has, where it has whole ones."""
        return pieces_of(self.module)[self.own.first : self.own.stop]

    def integer_buffers(self) -> dict[str, Tensor]:
        """Those of this worker's pieces, where it has whole ones."""
        everything = super().integer_buffers()
        if not self.pieces:
            return everything
        own = {id(buffer) for piece in self.pieces for buffer in piece.buffers()}
        return {name: values for name, values in everything.items() if id(self.module.get_buffer(name)) in own}

    @property
    def computing(self) -> AbstractContextManager[object]:
        """The context in which the module computes."""
        return nullcontext() if self._bf16 is None else self._bf16.autocast

    def gradient(self, batch: Batch) -> tuple[float, Tensor]:
        raise AssertionError("no worker has the whole model")
