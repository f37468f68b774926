"""One worker's rounds under FSDP2: some rows of every tensor are its own, and the others come when a layer needs them.

fully_shard gathers a unit's tensors before its forward and its backward pass, and adds up and divides its gradients after that. The shards
that it works on are copies: what counts lies in the shared block, is copied into them before each round, and changed after it.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from aimass.training.replicas.exchange import weight_of
from aimass.training.slices.cut import rows_of
from aimass.training.slices.exchange import Round, SliceExchange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aimass.data.batch import Batch
    from aimass.training.leases.replicas import Part
    from aimass.training.workers.worker import Worker

_GATHERS_AND_SCATTERS = 3


class ShardExchange(SliceExchange):
    """What one worker does in each round.

    Args:
        worker: with the learner of a model whose tensors are divided.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._module: nn.Module | None = None
        self._shards: list[tuple[nn.Parameter, Tensor, Tensor]] = []  # the parameter, and its part of p and of g here
        self._sent = _GATHERS_AND_SCATTERS * (self._size - 1) * worker.vector_bytes // self._size

    def _build(self) -> None:
        learner = self._learner
        module, mesh = deepcopy(learner.module), DeviceMesh("cpu", list(range(self._size)))
        frozen = {parameter for parameter in module.parameters() if not parameter.requires_grad}
        kept = {name: values.clone() for name, values in _values(module)}
        for unit in units_of(module) if not learner.manifest.aliases else ():  # tied tensors have to be in one unit
            if unit is not module:
                fully_shard(unit, mesh=mesh, ignored_params=frozen)
        fully_shard(module, mesh=mesh, ignored_params=frozen)
        module.to_empty(device="cpu")
        with torch.no_grad():
            for name, values in _values(module):
                if name in kept:
                    values.copy_(kept[name])
        named = dict(module.named_parameters())
        for entry in learner.manifest.entries:
            start, stop = rows_of(entry, self._slot, self._size)
            if stop > start:
                self._shards.append((named[entry.name], learner.parameters[start:stop], learner.gradient_vector[start:stop]))
        learner.move_buffers(module)
        self._module = module

    def _forget(self) -> None:
        super()._forget()
        self._module = None
        self._shards.clear()

    def _compute(self, part: Part) -> Round:
        module, learner = self._module, self._learner
        assert module is not None, "it was built for this group"
        with torch.no_grad():
            for parameter, values, _ in self._shards:
                _local(parameter).copy_(values.view(_local(parameter).shape))
                parameter.grad = None
        batch = self._batch(part.batches[0] if part.batches else part.done - 1)  # without a part it gathers with the others all the same
        weight = weight_of(batch) if part.batches else 0.0
        with learner.computing:
            outputs = module(*batch["inputs"].values())
        loss = learner.task.loss(outputs, batch["targets"], batch["weights"])
        # FSDP2 takes the mean over the workers.
        (loss * (weight / self._weight_of_round(part, batch) * self._size)).backward()  # type: ignore[no-untyped-call]
        for parameter, _, gradient in self._shards:
            if parameter.grad is not None:
                gradient.copy_(_local(parameter.grad).reshape(-1))
        self._worker.moved(sent=self._sent, received=self._sent, messages=_GATHERS_AND_SCATTERS * (self._size - 1))
        return Round(loss=loss.item() * weight if weight else 0.0, weight=weight, num_rows=part.num_rows)

    def _weight_of_round(self, part: Part, batch: Batch) -> float:
        """The weights of all workers' rows."""
        if batch["weights"] is None:
            return float(part.num_rows)
        numbers = self._table.batches_of(self._slices.done, part.done)
        return sum(weight_of(self._worker.take(self._table.rows(number))) for number in numbers)


def units_of(module: nn.Module) -> Iterator[nn.Module]:
    """The parts of a module whose tensors are gathered together: those that have tensors of their own, with whatever is in them.

    >>> [type(unit).__name__ for unit in units_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.MultiheadAttention(2, 1)))]
    ['Linear', 'MultiheadAttention']
    """
    if next(module.parameters(recurse=False), None) is not None:
        yield module
    else:
        for child in module.children():
            yield from units_of(child)


def _values(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What of a module has values from the start: its buffers, and its frozen parameters."""
    yield from module.named_buffers()
    yield from ((name, parameter.data) for name, parameter in module.named_parameters() if not parameter.requires_grad)


def _local(values: Any) -> Tensor:
    """This worker's rows of a tensor that is divided."""
    local: Tensor = values.to_local()
    return local.data
