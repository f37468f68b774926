"""A few steps of a model on its first batches, so that what is chosen for a run rests on what was found."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from threading import Barrier
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from aimass.models.devices import random_states, set_random_states
from aimass.models.learner import Learner
from aimass.training.leases.rows import TrainingRows
from aimass.training.workers.threads import threads_for

if TYPE_CHECKING:
    from torch import Tensor

    from aimass.data.batch import Batch
    from aimass.data.dataset import Dataset

_NUM_BATCHES = 4
_LEAST_STEPS, _MOST_STEPS = 4, 40
_STEPPING_S = 0.25
_POWER_ITERATIONS, _EPSILON = 10, 1e-3
_LONGEST_SUM = 1 << 22
_SUM_BYTES = 12  # an element: two are read, one is written
_ADAM_BYTES = 28  # a parameter: p, m and v are read and written, g is read
_PULL_BYTES = 8  # a parameter: p is read, and written elsewhere
_RACING_S, _MOST_RACERS = 0.2, 32


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What some steps showed.

    Args:
        step_s: seconds of a forward and backward pass on one batch, the fastest of some.
        parameters: the length of p.
        bandwidth_bytes_s: how fast this process adds two vectors as long as p, in bytes a second.
        sparsity: which share of the elements of a batch's gradient is 0, of the matrices alone.
        curvature: the largest magnitude of an eigenvalue of the loss's Hessian, as one batch has it; None where there is none.
    """

    step_s: float
    parameters: int
    bandwidth_bytes_s: float
    sparsity: float
    curvature: float | None

    @property
    def update_share(self) -> float:
        """How long an update by Adam takes when memory bounds it, over the time of a step."""
        return _ADAM_BYTES * self.parameters / self.bandwidth_bytes_s / self.step_s

    @property
    def exchange_share(self) -> float:
        """How long a push and a pull take when memory bounds them, with such an update, over the time of a step."""
        return (_ADAM_BYTES + _PULL_BYTES) * self.parameters / self.bandwidth_bytes_s / self.step_s


def measure(learner: Learner, data: Dataset, batch_size: int, seed: int, parameters: Tensor | None = None) -> Measured:
    """Take some steps with a copy of the learner's module; the learner and torch's random state are left as they are.

    Args:
        learner: the driver's, on the device that counts.
        data: whose training rows are stepped on.
        batch_size: rows a step.
        seed: decides which rows.
        parameters: the p to step at, if not the learner's. Shape (num_parameters,).
    """
    random = random_states(learner.device)
    try:
        copied = Learner(deepcopy(learner.module), learner.task, device=learner.device)
        if parameters is not None:
            copied.parameters.copy_(parameters)
        batches = _batches(data, batch_size, seed)
        step_s, bandwidth_bytes_s, sparsity = _steps(copied, batches)
        return Measured(
            step_s=step_s,
            parameters=copied.manifest.num_parameters,
            bandwidth_bytes_s=bandwidth_bytes_s,
            sparsity=sparsity,
            curvature=_curvature(copied, batches[0]),
        )
    finally:
        set_random_states(random, learner.device)


def _batches(data: Dataset, batch_size: int, seed: int) -> list[Batch]:
    rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[: _NUM_BATCHES * batch_size]
    taken = TrainingRows.of(data.train.encoded)
    return [taken.take(part) for part in torch.split(rows, batch_size)]


def _steps(learner: Learner, batches: list[Batch]) -> tuple[float, float, float]:
    """The seconds of the fastest of some steps, the bytes a second of the fastest of as many sums of two vectors between them, and the
    share of zeros in the matrices' gradients."""
    matrices = [entry for entry in learner.manifest.entries if len(entry.shape) > 1] or list(learner.manifest.entries)
    size = sum(entry.size for entry in matrices)
    total = torch.zeros(min(learner.manifest.num_parameters, _LONGEST_SUM))
    other = torch.ones_like(total)
    shares: list[float] = []
    step_s = sum_s = float("inf")
    end = perf_counter() + _STEPPING_S
    for step in range(_MOST_STEPS):
        if step >= _LEAST_STEPS and perf_counter() > end:
            break
        start = perf_counter()
        gradient = learner.gradient(batches[step % len(batches)])[1]
        middle = perf_counter()
        total.add_(other)
        step_s, sum_s = min(step_s, middle - start), min(sum_s, perf_counter() - middle)
        if step < len(batches):
            views = learner.named(gradient)
            zeros = sum(view.numel() - int(view.count_nonzero()) for view in (views[entry.name] for entry in matrices))
            shares.append(zeros / max(size, 1))
    return step_s, _SUM_BYTES * len(total) / sum_s, sum(shares) / len(shares)


def _curvature(learner: Learner, batch: Batch) -> float | None:
    """The largest magnitude of an eigenvalue of the Hessian H of one batch's loss, by power iteration with differences of gradients:

        H v ≈ (∇L(p + εv) − ∇L(p − εv)) / 2ε,    v ← Hv / ‖Hv‖,    |λ| ≈ ‖Hv‖

    ε is small, because between the kinks of a ReLU network the loss is smooth, and across them it is another one.
    """
    p = learner.parameters.clone()

    def gradient_at(point: Tensor) -> Tensor:
        learner.parameters.copy_(point)
        torch.manual_seed(0)  # the same dropout each time
        return learner.gradient(batch)[1].clone()

    v = torch.randn(p.numel(), generator=torch.Generator().manual_seed(0))
    size = float(v.norm())
    for _ in range(_POWER_ITERATIONS):
        v /= size
        v = (gradient_at(p + _EPSILON * v) - gradient_at(p - _EPSILON * v)) / (2 * _EPSILON)
        size = float(v.norm())
        if not isfinite(size) or size == 0:
            return None
    return size


def evenness(workers: int) -> float:
    """How alike so many workers would be in speed on this machine as it is now: the products of matrices that the slowest of as many
    threads gets done in a moment, over those of the fastest."""
    racers = min(workers, _MOST_RACERS)
    together, done = Barrier(racers), [0] * racers

    def race(own: int) -> None:
        matrix = torch.full((192, 192), 1e-3)
        together.wait()
        end = perf_counter() + _RACING_S
        while perf_counter() < end:
            torch.mm(matrix, matrix)
            done[own] += 1

    with threads_for(0), ThreadPoolExecutor(racers) as threads:
        list(threads.map(race, range(racers)))
    return min(done) / max(done)
