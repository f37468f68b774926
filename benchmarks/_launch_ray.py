"""Four Ray actors to their first step: what `launch.py` runs in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time

NUM_WORKERS = 4


class Actor:
    """Takes a step by itself, without a word to the others, which is the least that any strategy does."""

    def step(self) -> float:
        """The moment at which it was done."""
        import torch
        from torch import nn

        torch.set_num_threads(1)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        nn.functional.cross_entropy(model(torch.randn(32, 64)), torch.randint(10, (32,))).backward()
        optimizer.step()
        return time.monotonic()


def main() -> None:
    """Print the seconds: cold since the process was started (`sys.argv[1]`, on the monotonic clock), then warm ones."""
    os.environ.update(RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_USAGE_STATS_ENABLED="0")
    import ray

    ray.init(num_cpus=NUM_WORKERS, include_dashboard=False, log_to_driver=False, logging_level="error")
    remote = ray.remote(num_cpus=1)(Actor)

    def first_steps() -> float:
        start = time.monotonic()
        actors = [remote.remote() for _ in range(NUM_WORKERS)]
        done = max(ray.get([actor.step.remote() for actor in actors]))
        for actor in actors:
            ray.kill(actor)
        return done - start

    ready = time.monotonic()
    cold = ready - float(sys.argv[1]) + first_steps()
    warm = []
    for _ in range(int(sys.argv[2])):
        time.sleep(1.0)  # Ray starts idle processes for the next actors meanwhile
        warm.append(first_steps())
    ray.shutdown()
    print(json.dumps({"cold_s": cold, "warm_s": warm}))


if __name__ == "__main__":
    main()
