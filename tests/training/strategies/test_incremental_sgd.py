"""Incremental SGD: its changes against plain PyTorch, how large its tasks are, and who is told to have done them."""

import pytest
import torch
from torch.nn import functional as F
from training.plain import assert_same, train_plainly

import aimass
from aimass.core.errors import UsageError
from aimass.training.opening import open_learner, plan_leases
from aimass.training.settling import settle
from aimass.training.strategy import parse_strategy

SMALL = {"model": {"name": "mlp", "hidden": [16]}, "batch_size": 8, "seed": 4, "epochs": 3, "optimizer": {"name": "sgd", "lr": 0.1}}


@pytest.fixture(scope="module")
def wine():
    return aimass.data.load("wine")


def replay(data, settings):
    """Rounds of as many tasks as there are workers, each from the same W, in a plain loop."""
    config, _ = settle(settings)
    module = open_learner(config, data, aimass.models.tasks.build_task("multiclass"), None).module
    plan, parameters = plan_leases(config, len(data.train)), list(module.parameters())
    w = torch.nn.utils.parameters_to_vector(parameters).detach().clone()
    numbers, targets = torch.from_numpy(data.train.encoded.numbers), torch.from_numpy(data.train.encoded.targets)
    for epoch in range(config.stop.num_epochs):
        tasks = [torch.from_numpy(plan.rows(epoch * plan.leases_per_epoch + task)) for task in range(plan.leases_per_epoch)]
        assert sorted(torch.cat(tasks).tolist()) == list(range(len(data.train)))
        for first in range(0, len(tasks), config.workers):
            together, changes = tasks[first : first + config.workers], []
            for rows in together:
                torch.nn.utils.vector_to_parameters(w.clone(), parameters)
                optimizer = torch.optim.SGD(parameters, lr=0.1)
                for batch in rows.split(config.batch_size):
                    optimizer.zero_grad()
                    F.cross_entropy(module(numbers[batch]), targets[batch]).backward()
                    optimizer.step()
                changes.append(torch.nn.utils.parameters_to_vector(parameters).detach() - w)
            if config.strategy.combine == "sum":
                w += sum(changes)
            else:
                w += sum(len(rows) * change for rows, change in zip(together, changes, strict=True)) / sum(map(len, together))
    torch.nn.utils.vector_to_parameters(w, parameters)
    return dict(module.named_parameters())


@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_ordered_changes_equal_a_plain_loop(wine, combine):
    settings = {**SMALL, "workers": 3, "strategy": {"name": "incremental_sgd", "combine": combine, "ordered": True, "rho": 1.5}}
    run = aimass.train(wine, **settings).wait()
    assert_same(run.model, replay(wine, settings))
    config, _ = settle(settings)
    plan = plan_leases(config, len(wine.train))
    assert plan.batches_per_lease == 3
    done = [event.data for event in run.events() if event.type == "tasks_done"]
    assert [event["epoch"] for event in done] == [1, 2, 3]
    for event in done:
        tasks = sorted(task for tasks in event["tasks"].values() for task in tasks)
        assert tasks == list(range((event["epoch"] - 1) * plan.leases_per_epoch, event["epoch"] * plan.leases_per_epoch))
        assert {worker: len(tasks) for worker, tasks in event["tasks"].items()} == event["counts"]


@pytest.mark.parametrize("ordered", [False, True])
def test_one_worker_equals_plain_steps_on_every_batch(wine, ordered):
    """A sum and a mean of one change are that change."""
    settings = {**SMALL, "strategy": {"name": "isgd", "combine": "mean", "ordered": ordered}}
    run = aimass.train(wine, **settings).wait()
    assert_same(run.model, train_plainly(wine, settings, lambda p: torch.optim.SGD(p, lr=0.1)))
    assert run.metrics()["steps"] == 3 * -(-len(wine.train) // 8)


def test_a_task_is_at_most_a_share_of_the_rows_and_at_least_a_batch():
    def rows(rho, workers, num_rows=1000, batch_size=10):
        config = parse_strategy({"name": "增量式SGD", "rho": rho})
        return batch_size * config.task_batches(num_rows, batch_size, workers)

    assert rows(rho=1, workers=1) == 1000
    assert rows(rho=1, workers=2) == 500
    assert rows(rho=4, workers=2) == 120  # of at most 125
    assert rows(rho=2.5, workers=10) == 40
    assert rows(rho=1000, workers=10) == 10


def test_its_tasks_have_no_other_size():
    with pytest.raises(UsageError, match=r"a lease is a task, whose size strategy\.rho decides; leave lease\.batches out"):
        settle({"strategy": "isgd", "lease": {"batches": 4}})
    with pytest.raises(UsageError, match=r"strategy\.rho=0\.5: input should be greater than or equal to 1"):
        settle({"strategy": {"name": "isgd", "rho": 0.5}})


@pytest.mark.parametrize("ordered", [False, True])
def test_a_run_goes_on_where_it_stopped(wine, ordered):
    settings = {**SMALL, "strategy": {"name": "isgd", "ordered": ordered}, "workers": 2 * ordered}
    straight = aimass.train(wine, **{**settings, "epochs": 4}).wait()
    resumed = aimass.train(wine, **{**settings, "epochs": 2}).wait().resume(epochs=4).wait()
    assert_same(resumed.model, dict(straight.model.module.named_parameters()), tolerance=0)


def test_a_sum_that_goes_too_far_is_taken_back_to_half_the_rate():
    settings = {"model": "linear", "optimizer": {"name": "sgd", "lr": 0.2}, "batch_size": 8, "epochs": 12, "workers": 2}
    mean, total = (
        aimass.train("diabetes", **settings, strategy={"name": "isgd", "combine": combine, "ordered": True, "rho": 20}).wait()
        for combine in ("mean", "sum")
    )
    assert mean.metrics()["rollbacks"] == 0
    assert total.metrics()["rollbacks"] > 0
    assert total.metrics()["rate_factor"] < 1
    assert total.state == "succeeded"
