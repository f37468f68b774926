"""Ray Train: the DDP loop of `_train_torch.py` under a TorchTrainer with a FailureConfig, in a process of its own.

`sys.argv[1]` is a `Contest` as JSON, `sys.argv[2]` the number of workers. It trains until it is told to stop (SIGTERM), and takes its
cluster along.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from _contest import Contest
from _measure import ONE_THREAD

_FAILURES = 3


def train(config: dict[str, str]) -> None:
    """What each of Ray's workers runs."""
    import sys

    sys.path[:0] = config["path"].split(os.pathsep)
    import ray.train
    import ray.train.torch
    import torch
    from _train_torch import Loop
    from _train_torch import train as train_loop
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    context = ray.train.get_context()
    train_loop(Loop(Contest.read(config["contest"]), context.get_world_rank(), context.get_world_size(), DistributedDataParallel))


def main() -> None:
    """Start a cluster and train."""
    os.environ.update(ONE_THREAD, RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_USAGE_STATS_ENABLED="0")
    contest, num_workers = Contest.read(sys.argv[1]), int(sys.argv[2])
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    def leave(number: int, frame: FrameType | None) -> None:
        ray.shutdown()
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    ray.init(
        num_cpus=num_workers + 1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        _temp_dir=str(Path(contest.folder) / "t"),
    )
    signal.signal(signal.SIGTERM, leave)
    TorchTrainer(
        train,
        train_loop_config={"contest": contest.write(), "path": os.pathsep.join(sys.path)},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=num_workers),
        run_config=RunConfig(storage_path=str(Path(contest.folder) / "ray"), failure_config=FailureConfig(max_failures=_FAILURES)),
    ).fit()


if __name__ == "__main__":
    main()
