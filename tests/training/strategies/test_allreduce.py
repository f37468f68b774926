"""All-reduce against a plain PyTorch loop over the rows of each round put together, also where workers are killed in every round."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import aimass
from aimass.core.errors import UsageError
from aimass.optim import Ftrl
from aimass.training.opening import open_learner, plan_leases
from aimass.training.settling import settle

REFERENCES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.001),
    "ftrl": lambda p: Ftrl(p, lr=0.05, keep_start=True),
}


@pytest.fixture(scope="module")
def data():
    return aimass.data.load("wine")


def rounds_of(plan, workers, accumulate=1):
    """The rows of each round, by themselves: the next `workers` × `accumulate` batches, never across the end of an epoch."""
    for epoch in range(plan.total_batches // plan.batches_per_epoch):
        leases = range(epoch * plan.leases_per_epoch, (epoch + 1) * plan.leases_per_epoch)
        rows = np.concatenate([plan.rows(lease) for lease in leases])
        size = workers * accumulate * plan.batch_size
        yield from (torch.from_numpy(rows[at : at + size]) for at in range(0, len(rows), size))


def plain_loop(data, settings, accumulate=1, clip=None):
    config, _ = settle(settings)
    torch.manual_seed(config.seed)
    module = copy.deepcopy(open_learner(config, data, aimass.models.tasks.build_task(data.task), None).module)
    for parameter in module.parameters():
        parameter.data, parameter.grad = parameter.data.clone(), None
    numbers, targets = torch.from_numpy(data.train.encoded.numbers), torch.from_numpy(data.train.encoded.targets)
    optimizer = REFERENCES[config.optimizer.name](module.parameters())
    for rows in rounds_of(plan_leases(config, len(data.train)), max(1, config.workers), accumulate):
        optimizer.zero_grad()
        F.cross_entropy(module(numbers[rows]), targets[rows]).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
    return dict(module.named_parameters())


def assert_same(model, expected):
    ours = dict(model.module.named_parameters())
    for name, values in expected.items():
        torch.testing.assert_close(ours[name], values, atol=1e-6, rtol=1e-6)


def settings(optimizer="adam", workers=2, epochs=3, **changes):
    optimizer = {"name": optimizer, "lr": 0.001 if optimizer == "adam" else 0.05}
    return {"model": "mlp", "strategy": "allreduce", "optimizer": optimizer, "workers": workers, "epochs": epochs, "seed": 3, **changes}


@pytest.mark.parametrize("optimizer", sorted(REFERENCES))
@pytest.mark.parametrize("workers", [0, 2, 3])
def test_it_equals_a_plain_loop_over_the_rounds_rows(optimizer, workers, data):
    chosen = settings(optimizer, workers)
    assert_same(aimass.train(data, **chosen).wait().model, plain_loop(data, chosen))


def test_parts_of_several_batches_are_added_up_and_the_rounds_mean_is_clipped(data):
    chosen = settings("momentum", workers=2, batch_size=10, clip=0.3)
    chosen["strategy"] = {"name": "allreduce", "accumulate": 3}
    assert_same(aimass.train(data, **chosen).wait().model, plain_loop(data, chosen, accumulate=3, clip=0.3))


def test_it_goes_on_from_another_strategys_checkpoint_and_with_other_workers(data):
    run = aimass.train(data, model="mlp", strategy="async_sgd", workers=2, max_steps=7, seed=1).wait()
    run = run.resume(strategy="allreduce", workers=3, max_steps=12).wait()
    assert run.metrics()["steps"] == 12
    run = run.resume(workers=2, max_steps=15).wait()
    assert (run.config.strategy.name, run.metrics()["steps"]) == ("allreduce", 15)
    run = run.resume(strategy="async_sgd", max_steps=17).wait()
    assert run.metrics()["steps"] == 17


def test_nccl_is_refused_where_workers_have_no_gpu_each(data):
    with pytest.raises(UsageError, match="'nccl' needs a GPU for each of the 2 workers, and they compute on cpu"):
        aimass.train(data, strategy={"name": "allreduce", "backend": "nccl"}, workers=2, device="cpu").wait()


def test_what_is_evaluated_and_when_a_run_stops_do_not_depend_on_chance(data):
    chosen = settings("adam", workers=2, epochs=30, batch_size=20, stop={"patience": 2})
    first, second = (aimass.train(data, **chosen).wait() for _ in range(2))
    assert [(epoch["step"], epoch["validation"]) for epoch in first.history()] == [
        (epoch["step"], epoch["validation"]) for epoch in second.history()
    ]
    per_epoch = -(-len(data.train) // 20)
    assert [epoch["step"] for epoch in first.history()] == [per_epoch * (i + 1) for i in range(len(first.history()))]
    assert_same(second.model, dict(first.model.module.named_parameters()))


@pytest.mark.parametrize("name", ["data_slices", "数据切片", "数据并行"])
def test_data_slices_whose_gradients_are_merged_are_all_reduce(name):
    config, _ = settle({"strategy": name, "workers": 2})
    assert config.strategy.name == "allreduce"
