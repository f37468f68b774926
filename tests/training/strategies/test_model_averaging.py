"""Model averaging: against plain PyTorch, with an outer optimizer, with workers that are slow, and as it is set."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F
from training import gathering
from training.plain import assert_same, average_plainly, train_plainly, two_leases_at_once

import aimass
from aimass.core.errors import UsageError
from aimass.training.opening import open_learner, plan_leases
from aimass.training.settling import settle
from aimass.training.strategy import parse_strategy
from aimass.training.workers import entry as worker_entry
from aimass.training.workers.shaping import shaped

SMALL = {"model": {"name": "mlp", "hidden": [16]}, "batch_size": 16, "seed": 4, "epochs": 3, "optimizer": {"name": "sgd", "lr": 0.1}}
TOGETHER = {"name": "model_averaging", "quorum": 1.0}


@pytest.fixture(scope="module")
def wine():
    return aimass.data.load("wine")


@pytest.mark.parametrize("workers", [0, 3])
def test_averages_after_each_step_of_sgd_are_rounds_of_the_parameter_server(wine, workers):
    ours = aimass.train(wine, **SMALL, strategy={**TOGETHER, "every": 1}, workers=workers).wait()
    rounds = aimass.train(wine, **SMALL, strategy="parameter_server", workers=workers).wait()
    assert_same(ours.model, dict(rounds.model.module.named_parameters()))
    settings = {**SMALL, "strategy": {**TOGETHER, "every": 1}, "workers": workers}
    reference = train_plainly(wine, settings, lambda p: torch.optim.SGD(p, lr=0.1), leases_at_once=max(1, workers))
    assert_same(ours.model, reference)
    assert ours.metrics()["staleness"][0] == ours.metrics()["steps"] == 3 * -(-len(wine.train) // 16)


@pytest.mark.parametrize(
    ("outer", "reference", "momentum"),
    [
        (None, lambda p: torch.optim.SGD(p, lr=1.0), 0.9),
        ("nesterov", lambda p: torch.optim.SGD(p, lr=0.7, momentum=0.9, nesterov=True), 0.0),
        ({"name": "adam", "lr": 0.05, "eps": 0.001}, lambda p: torch.optim.Adam(p, lr=0.05, eps=0.001), 0.0),
    ],
    ids=["plain, states reset", "diloco", "adam"],
)
def test_a_round_is_an_outer_step_by_the_mean_change(wine, outer, reference, momentum):
    strategy = {**TOGETHER, "every": 3, "outer": outer, "states": "reset"}
    settings = {**SMALL, "strategy": strategy, "workers": 2, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": momentum}}
    run = aimass.train(wine, **settings).wait()

    config, _ = settle(settings)
    module = open_learner(config, wine, aimass.models.tasks.build_task("multiclass"), None).module
    plan, parameters = plan_leases(config, len(wine.train)), list(module.parameters())
    p = torch.nn.Parameter(torch.nn.utils.parameters_to_vector(parameters).detach().clone())
    trained = reference([p])
    numbers, targets = torch.from_numpy(wine.train.encoded.numbers), torch.from_numpy(wine.train.encoded.targets)
    for epoch in range(3):
        for first in range(0, plan.leases_per_epoch, 2):
            ends, weights = [], []
            for index in range(first, min(first + 2, plan.leases_per_epoch)):
                torch.nn.utils.vector_to_parameters(p.detach().clone(), parameters)
                local = torch.optim.SGD(parameters, lr=0.1, momentum=momentum)
                rows = torch.from_numpy(plan.rows(epoch * plan.leases_per_epoch + index))
                for batch in rows.split(16):
                    local.zero_grad()
                    F.cross_entropy(module(numbers[batch]), targets[batch]).backward()
                    local.step()
                ends.append(torch.nn.utils.parameters_to_vector(parameters).detach())
                weights.append(len(rows))
            mean = sum(weight * end for weight, end in zip(weights, ends, strict=True)) / sum(weights)
            p.grad = p.detach() - mean
            trained.step()
    torch.nn.utils.vector_to_parameters(p.detach(), parameters)
    assert_same(run.model, dict(module.named_parameters()))


@pytest.mark.parametrize("states", ["keep", "average"])
def test_one_worker_whose_states_go_on_is_plain_torch(wine, states):
    strategy = {"name": "model_averaging", "every": 2, "states": states}
    settings = {**SMALL, "strategy": strategy, "optimizer": {"name": "adam", "lr": 0.01}}
    run = aimass.train(wine, **settings).wait()
    assert_same(run.model, train_plainly(wine, settings, lambda p: torch.optim.Adam(p, lr=0.01)))


def test_states_are_averaged_by_rows_as_p_is(wine):
    """Against a plain loop in which two take steps with momentum from the same p and the same velocity, and meet again."""
    strategy = {**TOGETHER, "every": 3, "states": "average"}
    settings = {**SMALL, "strategy": strategy, "workers": 2, "optimizer": {"name": "momentum", "lr": 0.05}}
    run = aimass.train(wine, **settings).wait()
    expected = average_plainly(wine, settings, partial(two_leases_at_once, per_batch=16))
    assert_same(run.model, expected)
    num_leases = plan_leases(run.config, len(wine.train)).num_leases
    vectors = {name: run.metrics()[name] / (4 * sum(map(torch.numel, expected.values()))) for name in ("bytes_sent", "bytes_received")}
    assert vectors["bytes_sent"] == 2 * num_leases, "p and one state go up"
    assert vectors["bytes_received"] == 2 * num_leases - 2, "and come down, but for each worker's first round"


def test_an_epoch_is_dealt_evenly():
    config, _ = settle({"strategy": {"name": "model_averaging", "every": 10}, "workers": 2, "batch_size": 10, "epochs": 2})
    plan = plan_leases(config, 450)
    assert [plan.num_batches(lease) for lease in range(plan.leases_per_epoch)] == [8, 8, 8, 8, 8, 5]


def test_nobody_waits_long_for_a_slow_worker_and_each_batch_is_averaged(wine, monkeypatch):
    """What it found goes into later rounds, those of the next epoch too."""
    monkeypatch.setattr(worker_entry, "main", gathering.main)
    strategy = {"name": "model_averaging", "every": 2, "grace": 0}
    with shaped(slow={1: 30.0}):
        run = aimass.train(wine, **{**SMALL, "epochs": 40, "batch_size": 4}, strategy=strategy, workers=3).wait()
    steps = 40 * -(-len(wine.train) // 4)
    assert run.metrics()["steps"] == sum(run.metrics()["staleness"]) == steps
    assert run.metrics()["staleness_most"] >= 5
    assert [entry["epoch"] for entry in run.history()] == list(range(1, 41))
    assert run.model.evaluate(wine.test)["accuracy"] > 0.75


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_where_it_stopped(wine, workers):
    strategy = {**TOGETHER, "every": 2, "outer": "nesterov", "states": "average"}
    settings = {**SMALL, "strategy": strategy, "workers": workers, "optimizer": {"name": "momentum", "lr": 0.05}}
    straight = aimass.train(wine, **{**settings, "epochs": 4}).wait()
    resumed = aimass.train(wine, **{**settings, "epochs": 2}).wait().resume(epochs=4).wait()
    assert_same(resumed.model, dict(straight.model.module.named_parameters()))


def test_changes_in_8_bits_take_a_quarter_and_lead_as_far(wine):
    runs = {}
    for exchange in ("float32", "int8"):
        strategy = {**TOGETHER, "every": 2, "exchange": exchange}
        runs[exchange] = aimass.train(wine, **{**SMALL, "epochs": 8}, strategy=strategy, workers=2).wait()
    sent, received = ({exchange: run.metrics()[name] for exchange, run in runs.items()} for name in ("bytes_sent", "bytes_received"))
    num_parameters = sum(parameter.numel() for parameter in runs["int8"].model.module.parameters())
    exchanges = sent["float32"] // (4 * num_parameters)
    whole, short = 4 * num_parameters, num_parameters + 4 * -(-num_parameters // 256)
    assert sent["int8"] == exchanges * short
    assert received["float32"] == exchanges * whole
    assert received["int8"] in [exchanges * short + workers * (whole - short) for workers in (1, 2)], "p comes whole the first time"
    losses = {exchange: run.history()[-1]["train_loss"] for exchange, run in runs.items()}
    assert losses["int8"] == pytest.approx(losses["float32"], rel=0.01)
    assert losses["int8"] != losses["float32"]


def test_quorum_and_outer_are_read_as_people_write_them():
    def read(**settings):
        return parse_strategy({"name": "local_sgd", **settings})

    assert [read(quorum=given).quorum_of(4) for given in (1, "3", 0.5, "0.6", 1.0, "1.0")] == [1, 3, 2, 3, 4, 4]
    assert [read().quorum_of(workers) for workers in (1, 2, 3)] == [1, 1, 2]
    outers = [
        read(outer=given).outer_optimizer
        for given in ("sgd", "momentum", "nesterov", {"name": "sgd", "momentum": 0.5}, {"name": "sgd", "lr": 0.3})
    ]
    assert [(outer.learning_rate, outer.momentum_value, outer.nesterov) for outer in outers] == [
        (1.0, 0.0, False),
        (0.7, 0.9, False),
        (0.7, 0.9, True),
        (0.7, 0.5, False),
        (0.3, 0.0, False),
    ]
    assert read(outer="none", grace="none") == read()
    for config in (read(quorum=1), read(quorum=1.0), read(outer="nesterov", grace="2s")):
        assert parse_strategy(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strategy.quorum": 0}, r"strategy\.quorum=0: it is a number of workers, such as 2, or a share of them"),
        ({"strategy.quorum": 1.5}, "a share of them"),
        ({"strategy.quorum": "most"}, "a share of them"),
        ({"strategy.quorum": 3}, "is more than the 2 workers of the run"),
        ({"strategy.outer": {"name": "sgd", "rates": {"a": 0.5}}}, "the outer optimizer has one rate for all parameters"),
        ({"strategy.every": 0}, r"strategy\.every"),
        ({"strategy.outer": "lbfgs"}, "works element by element"),
        ({"strategy.outer": {"name": "sgd", "lr": 0}}, r"strategy\.outer\.lr=0"),
        ({"lease": {"batches": 4}}, r"set strategy\.every"),
    ],
)
def test_what_cannot_work_is_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        settle({"strategy": "model_averaging", "workers": 2, **settings})
