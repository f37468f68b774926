"""One DDP step over gloo, then the moment at which it was done: what `launch.py` has torchrun start four times."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    """Write the moment, on the monotonic clock, to a file named after the rank in the folder `sys.argv[1]`."""
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    nn.functional.cross_entropy(model(torch.randn(32, 64)), torch.randint(10, (32,))).backward()
    optimizer.step()
    (Path(sys.argv[1]) / str(dist.get_rank())).write_text(str(time.monotonic()), encoding="ascii")
    dist.barrier()
    os._exit(0)  # gloo's threads now and then abort the interpreter while it ends, which nobody measures


if __name__ == "__main__":
    main()
