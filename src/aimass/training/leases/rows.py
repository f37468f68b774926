"""The training rows as every worker sees them: tensors in one shared block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aimass.core.memory import SharedMemory

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from aimass.data.batch import Batch, Encoded

_ALIGNMENT = 64


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one array lies in the block."""

    name: str
    offset_bytes: int
    shape: tuple[int, ...]
    dtype: str


class TrainingRows:
    """Encoded rows with targets.

    Args:
        arrays: `numbers`, `categories`, `targets`, `rows` and `weights` (or None), as in `Encoded`.
    """

    def __init__(self, arrays: dict[str, NDArray[Any] | None]) -> None:
        tensors = {name: None if array is None else torch.from_numpy(array) for name, array in arrays.items()}
        numbers, targets, rows = tensors["numbers"], tensors["targets"], tensors["rows"]
        if numbers is None or targets is None or rows is None:
            raise AssertionError("training rows have inputs, targets and ids")
        self.numbers, self.targets, self.rows = numbers, targets, rows
        self.weights = tensors["weights"]
        categories = tensors["categories"]
        self.categories = categories if categories is not None and categories.shape[1] else None

    @classmethod
    def of(cls, encoded: Encoded) -> TrainingRows:
        """Rows that live in this process alone."""
        return cls(_arrays(encoded))

    @classmethod
    def attach(cls, descriptor: int, places: list[Place]) -> TrainingRows:
        """Rows that another process shared."""
        memory = SharedMemory.attach(descriptor)
        arrays: dict[str, NDArray[Any] | None] = dict.fromkeys(("numbers", "categories", "targets", "rows", "weights"))
        for place in places:
            arrays[place.name] = np.ndarray(place.shape, place.dtype, memory.view, place.offset_bytes)
        return cls(arrays)

    def take(self, index: Tensor) -> Batch:
        """The rows at `index`, int64 (num_rows,), as one batch."""
        inputs = {"numbers": self.numbers.index_select(0, index)}
        if self.categories is not None:
            inputs["categories"] = self.categories.index_select(0, index)
        return {
            "inputs": inputs,
            "targets": self.targets.index_select(0, index),
            "rows": self.rows.index_select(0, index),
            "weights": None if self.weights is None else self.weights.index_select(0, index),
        }


def slice_batch(batch: Batch, start: int, stop: int) -> Batch:
    """Rows `start` to `stop` of a batch, as views."""
    weights = batch["weights"]
    return {
        "inputs": {name: values[start:stop] for name, values in batch["inputs"].items()},
        "targets": batch["targets"][start:stop],
        "rows": batch["rows"][start:stop],
        "weights": None if weights is None else weights[start:stop],
    }


def share(encoded: Encoded) -> tuple[SharedMemory, list[Place]]:
    """Copy encoded rows into a block that workers can attach.

    Raises:
        StorageError: they do not fit into memory.
    """
    places: list[Place] = []
    size = 0
    arrays = {name: array for name, array in _arrays(encoded).items() if array is not None and array.size}
    for name, array in arrays.items():
        places.append(Place(name=name, offset_bytes=size, shape=array.shape, dtype=array.dtype.str))
        size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    memory = SharedMemory.create(max(size, 1))
    for place in places:
        np.ndarray(place.shape, place.dtype, memory.view, place.offset_bytes)[...] = arrays[place.name]
    for name in {"numbers"} - set(arrays):  # no numeric input at all: an array of width 0 takes no bytes
        places.append(Place(name=name, offset_bytes=0, shape=encoded.numbers.shape, dtype=encoded.numbers.dtype.str))
    return memory, places


def _arrays(encoded: Encoded) -> dict[str, NDArray[Any] | None]:
    return {
        "numbers": encoded.numbers,
        "categories": encoded.categories,
        "targets": encoded.targets,
        "rows": encoded.rows,
        "weights": encoded.weights,
    }
