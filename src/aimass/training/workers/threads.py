"""How many threads torch takes for a run in the caller's process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_WORK_FOR_THREADS = 20_000_000


@contextmanager
def threads_for(work: int) -> Iterator[None]:
    """One thread for small steps: on a busy machine several would mostly wait for each other.

    Args:
        work: multiplications of one forward pass.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if work < _WORK_FOR_THREADS else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
