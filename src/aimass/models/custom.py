"""A module that the caller brought: whether it takes the data's inputs, and gives what the task needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aimass.core.errors import AimassError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

_ROWS = 2


def check_module(module: nn.Module, num_numbers: int, cardinalities: Sequence[int], num_outputs: int, context: int = 0) -> None:
    """Try a module on two rows of zeros, in evaluation mode and without gradients, so that nothing in it changes.

    Args:
        module: called as `module(numbers)`, or as `module(numbers, categories)` where there are categories.
        num_numbers: numbers per row.
        cardinalities: how many ids each categorical column has.
        num_outputs: what the task needs for each row, or for each of `context` bytes.
        context: bytes of text a row; 0 for none.

    Raises:
        UsageError: it cannot be called so, or gives another shape.

    >>> from torch import nn
    >>> check_module(nn.Linear(4, 2), num_numbers=4, cardinalities=(), num_outputs=3)
    Traceback (most recent call last):
    aimass.core.errors.UsageError: the module gives (2, 2) for 2 rows, and the task needs (2, 3); let its last layer have 3 outputs
    """
    inputs = f"numbers of shape (rows, {num_numbers})" + (f" and categories of shape (rows, {len(cardinalities)})" if cardinalities else "")
    try:
        outputs = _try(module, num_numbers, len(cardinalities))
    except AimassError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"the module fails on {inputs}: {reason}; let it take these") from error
    shape = tuple(getattr(outputs, "shape", ()))
    fitting = (
        [(_ROWS, context, num_outputs)] if context else [(_ROWS, num_outputs), (_ROWS,)] if num_outputs == 1 else [(_ROWS, num_outputs)]
    )
    if shape not in fitting:
        given = shape if hasattr(outputs, "shape") else f"a {type(outputs).__name__}"
        raise UsageError(
            f"the module gives {given} for {_ROWS} rows, and the task needs {fitting[0]}; let its last layer have {num_outputs} outputs"
        )


def _try(module: nn.Module, num_numbers: int, num_categories: int) -> Tensor:
    import torch

    modes = {part: part.training for part in module.modules()}
    anywhere = next((tensor for tensor in module.parameters() if tensor.is_floating_point()), torch.empty(0))
    numbers = torch.zeros(_ROWS, num_numbers, dtype=anywhere.dtype, device=anywhere.device)
    inputs = [numbers]
    if num_categories:
        inputs.append(torch.zeros(_ROWS, num_categories, dtype=torch.int64, device=anywhere.device))
    module.eval()
    try:
        with torch.no_grad():
            outputs: Tensor = module(*inputs)
            return outputs
    finally:
        for part, mode in modes.items():
            part.training = mode
