"""What the benchmarks with slow workers share: who is slow by the processor's time, and how soon a loss is reached."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from aimass.models.manifest import Manifest
from aimass.training.workers import shaping

if TYPE_CHECKING:
    from _contest import Contest, OurRun, PeerRun

    import aimass

_LOOK_S = 0.05


class ByProcessorTime(shaping.Shape):
    """Slow by the processor's time, and not by the clock's, which on a busy machine counts what others do too."""

    def worker(self, slot: int) -> Any:
        from aimass.training.workers.worker import Worker

        shape = self

        class Slow(Worker):
            def gradient(self, batch: Any) -> Any:
                begun = time.thread_time()
                found = super().gradient(batch)
                took_s = time.thread_time() - begun
                time.sleep((shape.slowness(self.slot, time.monotonic()) - 1) * took_s)
                return found

        return Slow


def slow_by_processor_time() -> None:
    """Have every shape of this process be one of `ByProcessorTime`."""
    shaping.Shape = ByProcessorTime  # type: ignore[misc]


class Judge:
    """Measures the loss of whoever trains, from outside.

    Args:
        contest, data: what is trained.
        target: the loss over all training rows that is to be reached.
    """

    def __init__(self, contest: Contest, data: aimass.data.Dataset, target: float) -> None:
        encoded = data.train.encoded
        self._module, self._target = contest.network(), target
        self._manifest = Manifest.of(self._module)
        self._numbers, self._targets = torch.from_numpy(encoded.numbers), torch.from_numpy(encoded.targets)

    def loss(self, parameters: torch.Tensor) -> float:
        """Cross-entropy of all training rows."""
        self._module.load_state_dict(self._manifest.views(parameters))
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(self._module(self._numbers), self._targets))

    def time_to_target(self, run: OurRun | PeerRun, limit_s: float) -> float:
        """Seconds from the first batch to the target; infinite if that is not reached in time."""
        run.wait_for(1, of=any)
        start = time.monotonic()
        while (now := time.monotonic()) < start + limit_s:
            if run.is_over:
                break
            if self.loss(run.parameters()) <= self._target:
                return now - start
            time.sleep(max(0.0, now + _LOOK_S - time.monotonic()))
        return float("inf")
