"""Bytes against final loss: averaging models every H steps, against torch's PostLocalSGDOptimizer.

    python communication.py [--quick] [--json]

What is to be seen. A worker sends its change and fetches the mean once in H steps, so that bytes fall as 1/H. Whether the loss stays within
1% of that with H = 1 is the question. With `int8` what is sent and, after the first time, fetched is a quarter.

Everyone trains the same network from the same start on the same rows in the same order, two workers, plain SGD with a cosine schedule:
40,000 rows of a random teacher's ten classes, a tenth of them wrong, so that the loss does not fall to nothing. The peer's two
processes average over gloo after their H-th, 2 H-th, ... step. Its bytes are those of a ring of two: 4 P sent and as many received by each
process and average, which is what ours counts for a worker's exchange in float32. The loss is the cross-entropy of all training rows.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from _measure import ONE_THREAD, arguments, median, show

os.environ.update(ONE_THREAD)  # read when torch and numpy are imported

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.distributed.optim import PostLocalSGDOptimizer

import aimass
from aimass.models.config import build_module, parse_model
from aimass.optim.config import ScheduleConfig
from aimass.optim.schedules import rate_of
from aimass.training.leases.plan import LeasePlan

NUM_ROWS, WIDTH, NUM_CLASSES, WRONG = 40_000, 32, 10, 0.1
NUM_WORKERS, BATCH_SIZE, RATE = 2, 16, 0.1
HIDDEN = (64,)
PEER = "torch PostLocalSGDOptimizer"
EVERY = (1, 10, 100, 500)
SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {},
    "int8": {"exchange": "int8"},
    "nesterov": {"outer": "nesterov"},
}


def make_data(seed: int) -> aimass.data.Dataset:
    """Rows whose classes a random network decides, and a tenth of them chance."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(NUM_ROWS, WIDTH)).astype(np.float32)
    hidden = np.tanh(numbers @ generator.normal(size=(WIDTH, 32)) / 4)
    classes = (hidden @ generator.normal(size=(32, NUM_CLASSES))).argmax(axis=1)
    wrong = generator.random(NUM_ROWS) < WRONG
    classes[wrong] = generator.integers(NUM_CLASSES, size=int(wrong.sum()))
    columns: dict[str, Any] = {f"x{i}": numbers[:, i] for i in range(WIDTH)}
    return aimass.data.load({**columns, "class": [f"c{number}" for number in classes]}, "class")


def loss_of(module: nn.Module, rows: dict[str, Any]) -> float:
    """Cross-entropy of all training rows."""
    with torch.no_grad():
        return float(nn.functional.cross_entropy(module(rows["numbers"]), rows["targets"]))


def train_ours(data: aimass.data.Dataset, every: int, epochs: int, seed: int, settings: dict[str, Any]) -> tuple[float, int]:
    """The final loss of model averaging, and the bytes that its workers sent and received."""
    rows = {"numbers": torch.from_numpy(data.train.encoded.numbers), "targets": torch.from_numpy(data.train.encoded.targets)}
    with tempfile.TemporaryDirectory() as home:
        run = aimass.train(
            data,
            model={"name": "mlp", "hidden": list(HIDDEN)},
            strategy={"name": "model_averaging", "every": every, "quorum": 1.0, **settings},
            workers=NUM_WORKERS,
            batch_size=BATCH_SIZE,
            optimizer={"name": "sgd", "lr": RATE},
            schedule="cosine",
            epochs=epochs,
            seed=seed,
            home=home,
        ).wait()
        metrics = run.metrics()
        return loss_of(run.model.module, rows), metrics["bytes_sent"] + metrics["bytes_received"]


def train_torch(data: aimass.data.Dataset, every: int, epochs: int, seed: int) -> tuple[float, int]:
    """The same of PostLocalSGDOptimizer in processes of its own."""
    encoded, encoder = data.train.encoded, data.encoder
    plan = LeasePlan(
        num_rows=len(encoded.targets),
        batch_size=BATCH_SIZE,
        batches_per_lease=every,
        seed=seed,
        total_batches=epochs * -(-len(encoded.targets) // BATCH_SIZE),
    )
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"numbers": torch.from_numpy(encoded.numbers), "targets": torch.from_numpy(encoded.targets)}, Path(folder) / "rows.pt")
        shape = encoder.num_numbers, encoder.cardinalities, NUM_CLASSES
        torch.multiprocessing.spawn(_peer, (folder, plan, shape, seed), nprocs=NUM_WORKERS)  # type: ignore[no-untyped-call]
        found: tuple[float, int] = torch.load(Path(folder) / "found.pt", weights_only=True)
        return found


def _peer(rank: int, folder: str, plan: LeasePlan, shape: tuple[int, tuple[int, ...], int], seed: int) -> None:
    """One process of the peer: worker `rank` of each round has the lease that our worker would have."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=NUM_WORKERS)
    rows = torch.load(Path(folder) / "rows.pt", weights_only=True)
    torch.manual_seed(seed)
    module = build_module(parse_model({"name": "mlp", "hidden": list(HIDDEN)}), *shape)
    every = plan.batches_per_lease
    warnings.filterwarnings("ignore", "When period is 1")  # it says that DDP is for that
    local = torch.optim.SGD(module.parameters(), lr=RATE)
    averager = PeriodicModelAverager(period=every, warmup_steps=every - 1)
    optimizer = PostLocalSGDOptimizer(local, averager)
    rate = rate_of(RATE, ScheduleConfig(name="cosine"), plan.total_batches)
    for lease in range(rank, plan.num_leases, NUM_WORKERS):
        first = plan.first_batch(lease)
        for number, batch in enumerate(torch.from_numpy(plan.rows(lease)).split(BATCH_SIZE)):
            local.param_groups[0]["lr"] = rate(first + number)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(rows["numbers"][batch]), rows["targets"][batch]).backward()
            optimizer.step()
    if not rank:
        num_parameters = sum(parameter.numel() for parameter in module.parameters())
        exchanges = averager.step // every
        torch.save((loss_of(module, rows), 2 * NUM_WORKERS * exchanges * 4 * num_parameters), Path(folder) / "found.pt")
    dist.barrier()
    dist.destroy_process_group()


def compare(epochs: int, seeds: list[int]) -> list[dict[str, Any]]:
    """One row for each contestant and H, with the median loss over the seeds."""
    contestants: dict[str, Any] = {PEER: train_torch}
    contestants |= {f"model_averaging, {name}": partial(train_ours, settings=settings) for name, settings in SETTINGS.items()}
    found: dict[tuple[str, int], list[tuple[float, int]]] = {}
    for seed in seeds:
        data = make_data(seed)
        for every in EVERY:
            for name, train in contestants.items():
                if every == 1 and name not in (PEER, "model_averaging, float32"):
                    continue  # the others are for few exchanges
                found.setdefault((name, every), []).append(train(data, every, epochs, seed))
    most = found["model_averaging, float32", 1][0][1]
    rows = []
    for (name, every), samples in found.items():
        changes = [100 * (loss / at_one - 1) for (loss, _), (at_one, _) in zip(samples, found["model_averaging, float32", 1], strict=True)]
        moved = samples[0][1]
        rows.append(
            {
                "who": name,
                "H": every,
                "final loss": f"{median([loss for loss, _ in samples]):.4f}",
                "against float32, H=1": f"{median(changes):+.2f}%",
                "worst seed": f"{max(changes):+.2f}%",
                "MB moved": f"{moved / 1e6:.2f}",
                "less by": f"{most / moved:.1f}",
            }
        )
    return rows


def main() -> None:
    """Train everyone with each seed, in turns."""
    options = arguments(__doc__ or "").parse_args()
    epochs, seeds = (1, [0]) if options.quick else (2, [0, 1, 2])
    rows = compare(epochs, seeds)
    notes = [f"{epochs} epochs of 32,000 rows, two workers, {BATCH_SIZE} rows a step each; medians of {len(seeds)} seeds."]
    show("communication", notes, rows, {"epochs": epochs, "seeds": seeds, "rows": rows}, as_json=options.json)


if __name__ == "__main__":
    main()
