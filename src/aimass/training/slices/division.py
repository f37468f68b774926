"""How a run's model is divided: whether that can be, what each worker has, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from aimass.core.errors import UsageError
from aimass.models.config import build_module
from aimass.models.devices import find_device
from aimass.training.events import ModelSliced
from aimass.training.leases.rows import TrainingRows
from aimass.training.opening import network_shape
from aimass.training.planes import plane_of
from aimass.training.slices.cut import Slice, check_layers, cut_into_layers, cut_tensors

if TYPE_CHECKING:
    from torch import nn

    from aimass.data.dataset import Dataset
    from aimass.models.learner import Learner
    from aimass.parameters.layout import Layout
    from aimass.training.config import TrainConfig

_PROBED_ROWS = 2


def check_slices(config: TrainConfig, data: Dataset, module: nn.Module | None) -> None:
    """See whether the run's model has a layer for each worker, without giving it any values.

    Raises:
        UsageError: it has not.
    """
    _check_cpu(config)
    if module is None:
        with torch.device("meta"):
            module = build_module(config.model, *network_shape(data))
    check_layers(module, config.workers, str(getattr(config.strategy, "split", "cost")))


def divide(config: TrainConfig, learner: Learner, data: Dataset) -> list[Slice] | None:
    """What each worker has of the model; None where nobody has less than the whole.

    Raises:
        UsageError: the model cannot be cut as asked for.
    """
    divides = plane_of(config).divides
    if not divides:
        return None
    _check_cpu(config)
    if any(entry.dtype != "float32" for entry in learner.manifest.entries):
        raise UsageError(f"the strategy {config.strategy.name!r} divides float32 modules; call the module's .float()")
    if divides == "tensors":
        return cut_tensors(learner.manifest, config.workers)
    batch = TrainingRows.of(data.train.encoded).take(torch.arange(min(_PROBED_ROWS, len(data.train))))
    inputs = [batch["inputs"][name] for name in ("numbers", "categories") if name in batch["inputs"]]
    split = str(getattr(config.strategy, "split", "cost"))
    num_rows = config.rows_per_batch(len(data.train))
    return cut_into_layers(learner.module, learner.manifest, inputs, config.workers, split, num_rows)


def _check_cpu(config: TrainConfig) -> None:
    if find_device(config.device).type != "cpu":
        raise UsageError(
            f"the strategy {config.strategy.name!r} divides a model among processes on the CPU; leave device={config.device!r} out"
        )


def describe_slices(config: TrainConfig, slices: Sequence[Slice], layout: Layout) -> ModelSliced:
    """What is told of a model that is divided."""
    vectors = 2 + len(layout.states)
    return ModelSliced(
        strategy=config.strategy.name,
        slices=[
            {
                "worker": slot,
                "pieces": list(one.pieces),
                "parameters": one.num_parameters,
                "bytes": 4 * vectors * one.num_parameters,
                "flops_per_row": one.flops,
            }
            for slot, one in enumerate(slices)
        ],
    )
