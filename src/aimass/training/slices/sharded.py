"""One worker's rounds under FSDP2: some rows of every tensor are its own, and the others come when a layer needs them.

fully_shard gathers a unit's tensors before its forward and its backward pass, and adds up and divides its gradients after that. The shards
that it gathers from are this worker's rows in the shared block themselves, unless a tensor has fewer than the others': FSDP2 pads those,
in a copy that is brought up to date before each round. A gradient goes to the block as soon as it is there, and is kept nowhere else.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

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
        self._shards: list[tuple[nn.Parameter, Tensor]] = []  # the parameter, and its part of p here
        self._sent = _GATHERS_AND_SCATTERS * (self._size - 1) * worker.vector_bytes // self._size

    def _build(self) -> None:
        learner = self._learner
        module, mesh = deepcopy(learner.module), DeviceMesh("cpu", list(range(self._size)))
        frozen = {parameter for parameter in module.parameters() if not parameter.requires_grad}
        for unit in units_of(module) if not learner.manifest.aliases else ():  # tied tensors have to be in one unit
            if unit is not module:
                fully_shard(unit, mesh=mesh, ignored_params=frozen)
        fully_shard(module, mesh=mesh, ignored_params=frozen)
        named = dict(module.named_parameters())
        for entry in learner.manifest.entries:
            start, stop = rows_of(entry, self._slot, self._size)
            size = entry.size // max(entry.shape[0], 1)  # of a row
            values = learner.parameters[start:stop].view((stop - start) // max(size, 1), *entry.shape[1:])
            parameter = _divided_as(named[entry.name], values)
            hand_over = partial(_hand_over, learner.gradient_vector[start:stop])
            parameter.register_post_accumulate_grad_hook(hand_over)  # type: ignore[no-untyped-call]
            for name in learner.manifest.names_of(entry):
                path, _, last = name.rpartition(".")
                setattr(module.get_submodule(path), last, parameter)
            self._shards.append((parameter, values))
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
            for parameter, values in self._shards:
                if _local(parameter).data_ptr() != values.data_ptr():
                    _local(parameter).copy_(values)
        batch = self._batch(part.batches[0] if part.batches else part.done - 1)  # without a part it gathers with the others all the same
        weight = weight_of(batch) if part.batches else 0.0
        with learner.computing:
            outputs = module(*batch["inputs"].values())
        loss = learner.task.loss(outputs, batch["targets"], batch["weights"])
        # FSDP2 takes the mean over the workers.
        (loss * (weight / self._weight_of_round(part, batch) * self._size)).backward()  # type: ignore[no-untyped-call]
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


def _divided_as(divided: Any, values: Tensor) -> nn.Parameter:
    """A parameter that is divided as another one, with these rows of it here. FSDP2 takes it over at the first forward pass."""
    shape, stride = divided.shape, divided.stride()
    whole = DTensor.from_local(values, divided.device_mesh, divided.placements, run_check=False, shape=shape, stride=stride)
    return nn.Parameter(whole)


def _hand_over(gradient: Tensor, parameter: Any) -> None:
    """Add a part of a gradient to where it lies in the block, and let go of it."""
    gradient.add_(_local(parameter.grad).reshape(-1))
    parameter.grad = None


def _local(values: Any) -> Tensor:
    """This worker's rows of a tensor that is divided."""
    local: Tensor = values.to_local()
    return local.data
