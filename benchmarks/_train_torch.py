"""What people write with torch alone: a plain loop, or DDP over gloo where torchrun says a rank. The peer of the training benchmarks.

Started with a `Contest` as JSON (`sys.argv[1]`). Each process appends the moment after each of its steps, a double on the monotonic
clock, to the file `steps-RANK`, and its pid to `pid-RANK`.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from _contest import Contest
from _measure import die_with_parent
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from aimass.models.manifest import Manifest


class Loop:
    """One process: its rows, its module, its steps.

    Args:
        contest: what is trained.
        rank: which process this is; the number of them is `size`.
        parallel: wraps the module so that gradients are averaged; without it each process trains alone.
    """

    def __init__(self, contest: Contest, rank: int, size: int, parallel: type[DistributedDataParallel] | None) -> None:
        self.contest, self.rank, self.size = contest, rank, size
        self.folder = Path(contest.folder)
        rows = np.load(contest.rows)
        self._numbers, self._targets = torch.from_numpy(rows["numbers"]), torch.from_numpy(rows["targets"])
        self.module = contest.network()
        self._trained: nn.Module = parallel(self.module) if parallel else self.module
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[contest.optimizer]
        self.optimizer = kind(self.module.parameters(), lr=contest.learning_rate, fused=True)
        self._loss = nn.CrossEntropyLoss() if contest.outputs > 1 else nn.MSELoss()
        self._steps = os.open(self.folder / f"steps-{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        shown = self.folder / "shown.npy"
        self._shown = torch.from_numpy(np.lib.format.open_memmap(shown, "r+")) if contest.shows and not rank else None
        parameters = dict(self.module.named_parameters())
        self._in_order = [parameters[entry.name].detach().view(-1) for entry in Manifest.of(self.module).entries]
        (self.folder / f"pid-{rank}").write_text(str(os.getpid()), encoding="ascii")

    def batches(self, first: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's share of each epoch's permutation, from step `first` on, for ever."""
        size, per_epoch = self.contest.batch_size, len(self._numbers) // (self.contest.batch_size * self.size)
        for epoch in itertools.count(first // per_epoch):
            order = torch.randperm(len(self._numbers), generator=torch.Generator().manual_seed(self.contest.seed + epoch))
            for number in range(first % per_epoch, per_epoch):
                rows = order[(number * self.size + self.rank) * size :][:size]
                targets = self._targets[rows]
                yield self._numbers[rows], targets if self.contest.outputs > 1 else targets.float()
            first = 0

    def step(self, numbers: torch.Tensor, targets: torch.Tensor) -> None:
        """One update. A slow process sleeps (factor − 1) times the processor time that the last update took it."""
        slow = self.contest.slowness(self.rank)
        start = time.thread_time()  # which does not count waiting for the others inside `backward`
        self.optimizer.zero_grad()
        outputs = self._trained(numbers)
        loss = self._loss(outputs if self.contest.outputs > 1 else outputs.squeeze(1), targets)
        if slow > 1.0:
            time.sleep((slow - 1.0) * self._took)
        loss.backward()
        self._took = time.thread_time() - start
        self.optimizer.step()
        assert loss.item() == loss.item(), "the loss is not a number"
        os.write(self._steps, np.float64(time.monotonic()).tobytes())
        if self._shown is not None:
            torch.cat(self._in_order, out=self._shown)

    _took = 0.0

    def load(self) -> int:
        """Go on from the last checkpoint, if there is one, and return how many steps it had."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return 0
        kept = torch.load(path, weights_only=True)
        self.module.load_state_dict(kept["module"])
        self.optimizer.load_state_dict(kept["optimizer"])
        return int(kept["steps"])

    def save(self, steps: int) -> None:
        """Write a checkpoint that is there whole or not at all."""
        kept = {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict(), "steps": steps}
        torch.save(kept, self.folder / "checkpoint.new")
        (self.folder / "checkpoint.new").replace(self.folder / "checkpoint.pt")


def train(loop: Loop) -> None:
    """Until somebody ends this process."""
    contest = loop.contest
    steps = loop.load() if contest.checkpoint_s else 0
    saved = time.monotonic()
    for batch in loop.batches(steps):
        loop.step(*batch)
        steps += 1
        if contest.checkpoint_s and not loop.rank and time.monotonic() - saved > contest.checkpoint_s:
            loop.save(steps)
            saved = time.monotonic()


def main() -> None:
    """Train alone, or in the group that torchrun has made."""
    contest = Contest.read(sys.argv[1])
    die_with_parent()
    torch.set_num_threads(1)
    if "RANK" not in os.environ:
        return train(Loop(contest, int(sys.argv[2]), 1, None))
    dist.init_process_group("gloo")
    return train(Loop(contest, dist.get_rank(), dist.get_world_size(), DistributedDataParallel))


if __name__ == "__main__":
    main()
