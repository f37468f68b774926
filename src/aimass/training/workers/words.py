"""What each worker writes about itself, in words of its slot in the server's block. The driver reads them while it works. What it has done
is beside them (`parameters/counts.py`)."""

from __future__ import annotations

from aimass.parameters.layout import SLOT_FREE

BUFFERED, OPERATION, SINCE_NS, LEAVE = range(SLOT_FREE, SLOT_FREE + 4)
"""In this order: rows behind its buffers; what it does, and since when (`time.monotonic_ns`); whether it shall leave after its batch. What
stands behind is left to tests."""
