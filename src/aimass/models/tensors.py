"""Encoded rows as tensors that share their memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from aimass.data.batch import Encoded


def tensor_of(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor over an array's memory; a read-only array, as a memory map gives, is copied."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def inputs_of(encoded: Encoded, batch_size: int) -> Iterator[dict[str, Tensor]]:
    """The inputs of encoded rows, in order, `batch_size` rows at a time.

    Yields:
        `numbers` (rows, num_numbers), and `categories` (rows, num_categories) where there are any.
    """
    numbers, categories = tensor_of(encoded.numbers), tensor_of(encoded.categories)
    for start in range(0, len(numbers), batch_size):
        inputs = {"numbers": numbers[start : start + batch_size]}
        if categories.shape[1]:
            inputs["categories"] = categories[start : start + batch_size]
        yield inputs
