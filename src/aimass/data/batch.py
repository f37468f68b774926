"""What training sees: encoded rows as arrays, and one batch of them as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """Rows as a model takes them. All arrays have one entry, or one row, for each of `num_rows`.

    Args:
        numbers: standardised numbers, booleans and their indicators. float32 (num_rows, num_numbers), C-contiguous.
        categories: ids, each below its column's cardinality. int64 (num_rows, num_categories). The bytes of text, uint8
            (num_rows, context).
        targets: class ids, int64 (num_rows,); standardised values, float32 (num_rows,), for regression; the next bytes, uint8
            (num_rows, context), of text; None where not known.
        rows: which row of the source each is. int64 (num_rows,).
        weights: how much each row counts. float32 (num_rows,); None when all count the same.
    """

    numbers: NDArray[np.float32]
    categories: NDArray[np.int64] | NDArray[np.uint8]
    targets: NDArray[Any] | None
    rows: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.rows)


class Batch(TypedDict):
    """The rows of one step, as tensors.

    `inputs` holds "numbers" and, when the data have any, "categories"; the others are as in `Encoded`.
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    rows: Tensor
    weights: Tensor | None
