"""What each worker writes about itself, in words of its slot in the server's block. The driver reads them while it works."""

from __future__ import annotations

from aimass.parameters.layout import SLOT_FREE, SLOT_LOSS_WEIGHT

STEPS, ROWS, LOSS, LOSS_ROWS, BUFFERED, OPERATION, SINCE_NS, LEAVE = range(SLOT_FREE, SLOT_FREE + 8)
"""In this order: steps; rows; the sum of finite losses times their rows' weights (a double), and its rows; rows behind its buffers;
what it does, and since when (`time.monotonic_ns`); whether it shall leave after its batch. What stands behind is left to tests."""

LOSS_WEIGHT = SLOT_LOSS_WEIGHT
"""The weight of the rows of that sum of losses (a double)."""
