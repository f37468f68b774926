"""The parameter server: its rounds against plain PyTorch, what a worker sends, and how often."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from training.plain import assert_same, train_plainly

import aimass
from aimass.core.errors import TrainingError, UsageError
from aimass.training.opening import open_learner, plan_leases
from aimass.training.settling import settle
from aimass.training.strategy import parse_strategy
from aimass.training.workers.worker import _group

SMALL = {"model": {"name": "mlp", "hidden": [16]}, "batch_size": 16, "seed": 4, "epochs": 3}


@pytest.fixture(scope="module")
def wine():
    return aimass.data.load("wine")


def clip_all(parameters):
    torch.nn.utils.clip_grad_value_(parameters, 0.05)
    torch.nn.utils.clip_grad_norm_(parameters, 0.3)


@pytest.mark.parametrize(
    ("settings", "reference", "clip"),
    [
        ({"optimizer": {"name": "sgd", "lr": 0.1}, "strategy": "psm"}, lambda p: torch.optim.SGD(p, lr=0.1), None),
        (
            {
                "optimizer": {"name": "momentum", "lr": 0.1, "weight_decay": 0.02, "decay_bias": True},
                "clip": {"norm": 0.3, "value": 0.05},
                "strategy": {"name": "参数服务器", "sync_every": 2},
            },
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.02),
            clip_all,
        ),
        (
            {
                "optimizer": {"name": "adam", "lr": 0.01, "weight_decay": 0.02, "decay_bias": True},
                "clip": {"norm": 0.3, "value": 0.05},
                "strategy": {"name": "parameter_server", "atomic": False},
            },
            lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.02),
            clip_all,
        ),
    ],
    ids=["sgd", "momentum, two batches a part", "adam"],
)
def test_rounds_equal_plain_torch_on_the_batches_put_together(wine, settings, reference, clip):
    """The last round of an epoch has fewer parts, and the last part fewer rows."""
    settings = {**SMALL, **settings, "workers": 3}
    run = aimass.train(wine, **settings).wait()
    assert_same(run.model, train_plainly(wine, settings, reference, leases_at_once=3, clip=clip or (lambda parameters: None)))
    assert run.metrics()["steps"] == 3 * -(-len(wine.train) // 16) == sum(run.metrics()["staleness"])


def test_the_number_of_workers_that_are_there_changes_nothing(wine):
    """The parts of a round are those of the most that there may be, and whoever is there does them."""
    settings = {**SMALL, "optimizer": {"name": "adam", "lr": 0.01}, "strategy": "parameter_server", "epochs": 12}
    run = aimass.train(wine, **settings, workers=(1, 3))
    run.scale(1)
    run.wait()  # before the reference: both draw from torch's random state
    assert_same(run.model, train_plainly(wine, {**settings, "workers": 3}, lambda p: torch.optim.Adam(p, lr=0.01), leases_at_once=3))


@pytest.mark.parametrize("workers", [0, 2])
def test_deltas_of_rounds_are_averaged_by_rows(wine, workers):
    """Against a plain loop in which each worker takes its steps from the same p."""
    settings = {**SMALL, "optimizer": {"name": "sgd", "lr": 0.1}, "workers": workers}
    settings["strategy"] = {"name": "parameter_server", "push": "delta", "sync_every": 3}
    run = aimass.train(wine, **settings).wait()

    config, _ = settle(settings)
    torch.manual_seed(4)
    module = open_learner(config, wine, aimass.models.tasks.build_task("multiclass"), None).module
    plan, parameters = plan_leases(config, len(wine.train)), list(module.parameters())
    p = torch.nn.utils.parameters_to_vector(parameters).detach().clone()
    numbers, targets = torch.from_numpy(wine.train.encoded.numbers), torch.from_numpy(wine.train.encoded.targets)
    per_epoch, at_once = plan.leases_per_epoch, max(1, workers)
    for epoch in range(3):
        for first in range(0, per_epoch, at_once):
            deltas, weights = [], []
            for lease in range(epoch * per_epoch + first, epoch * per_epoch + min(first + at_once, per_epoch)):
                torch.nn.utils.vector_to_parameters(p.clone(), parameters)
                optimizer = torch.optim.SGD(parameters, lr=0.1)
                rows = torch.from_numpy(plan.rows(lease))
                for batch in rows.split(16):
                    optimizer.zero_grad()
                    F.cross_entropy(module(numbers[batch]), targets[batch]).backward()
                    optimizer.step()
                deltas.append(torch.nn.utils.parameters_to_vector(parameters).detach() - p)
                weights.append(len(rows))
            p += sum(weight * delta for weight, delta in zip(weights, deltas, strict=True)) / sum(weights)
    torch.nn.utils.vector_to_parameters(p, parameters)
    assert_same(run.model, dict(module.named_parameters()))


@pytest.mark.parametrize("push", ["gradient", "delta"])
@pytest.mark.parametrize(("staleness", "sync_every"), [(0, 4), (None, 4), (None, "0.002s"), (None, "1h")])
def test_it_learns_whatever_is_sent_and_however_often(wine, push, staleness, sync_every):
    strategy = {"name": "parameter_server", "push": push, "staleness": staleness, "sync_every": sync_every}
    run = aimass.train(wine, strategy=strategy, workers=2, epochs=8, batch_size=8, lr=0.005).wait()
    assert run.metrics()["steps"] == 8 * -(-len(wine.train) // 8)
    assert run.model.evaluate(wine.train)["loss"] < 0.3  # of three classes, guessed at for 1.1


def test_a_group_ends_by_its_number_by_its_time_or_with_its_lease():
    def groups(most, time_s):
        batches = iter(range(7))
        return [list(_group(first, batches, most, time_s)) for first in batches]

    assert groups(3, None) == [[0, 1, 2], [3, 4, 5], [6]]
    assert groups(None, 0.0) == [[0], [1], [2], [3], [4], [5], [6]]
    assert groups(None, 3600.0) == [[0, 1, 2, 3, 4, 5, 6]]


def test_steps_and_times_between_exchanges_cannot_be_taken_for_one_another():
    written = {given: parse_strategy({"name": "psm", "sync_every": given, "staleness": None}) for given in (4, "4", "4s", "0.25s", "2m")}
    assert [(config.sync_batches, config.sync_s) for config in written.values()] == [
        (4, None),
        (4, None),
        (None, 4.0),
        (None, 0.25),
        (None, 120.0),
    ]
    for config in written.values():
        assert parse_strategy(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("sync_every", [0, -1, 1.5, True, "s", "0s", "two", "1000001", None])
def test_what_is_no_exchange_is_refused(sync_every):
    with pytest.raises(UsageError, match=r"strategy\.sync_every.*it is a number of batches from 1 to 1,000,000, or a time with its unit"):
        parse_strategy({"name": "parameter_server", "staleness": None, "sync_every": sync_every})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_in_rounds_goes_on_where_it_stopped(wine, workers):
    settings = {**SMALL, "strategy": "parameter_server", "optimizer": {"name": "adam", "lr": 0.01}, "workers": workers}
    straight = aimass.train(wine, **{**settings, "epochs": 4}).wait()
    resumed = aimass.train(wine, **{**settings, "epochs": 2}).wait().resume(epochs=4).wait()
    assert_same(resumed.model, dict(straight.model.module.named_parameters()), tolerance=0)


def test_rounds_do_not_go_on_from_inside_a_part(wine):
    run = aimass.train(wine, **{**SMALL, "epochs": None, "max_steps": 3, "strategy": "async_sgd"}).wait()
    with pytest.raises(UsageError, match="step 3, at which this run stopped, is inside what a worker does between two exchanges"):
        run.resume(max_steps=20, strategy={"name": "parameter_server", "sync_every": 2}).wait()
    assert run.resume(max_steps=20, strategy="parameter_server").wait().metrics()["steps"] == 20


def test_a_round_without_a_finite_gradient_makes_no_step():
    """And so a run of nothing else says why it ends."""
    generator = np.random.default_rng(0)
    columns = {"x": generator.normal(size=400) * 1e30, "y": generator.normal(size=400) * 1e30}
    data = aimass.data.load(columns, "y", task="regression")
    with pytest.raises(TrainingError, match="NaN or infinity"):
        aimass.train(data, strategy="parameter_server", workers=2, lr=1e30, optimizer="sgd", epochs=40).wait()
