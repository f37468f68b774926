"""What an epoch's loss is: that of its rows, each by its weight, and of no others."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from training.plain import weighed_rows

import aimass
from aimass.core.errors import UsageError
from aimass.parameters.counts import SIDES, STEPS
from aimass.parameters.layout import SLOT_REPORTED
from aimass.training import trainer
from aimass.training.opening import plan_leases
from aimass.training.planes import plane_of
from aimass.training.settling import changed, fit_model, settle
from aimass.training.strategy import STRATEGIES
from aimass.training.trainer import Trainer

ALONE = [name for name in STRATEGIES.names() if not STRATEGIES.load(name).needs_workers]


@pytest.mark.parametrize("name", ALONE)
def test_a_loss_is_reported_before_the_push_that_may_end_its_epoch_and_looked_at_after_it(name, monkeypatch):
    strategy, pushed, looked = {"name": name, **({"every": 1} if name == "model_averaging" else {})}, [], []
    kind = plane_of(settle({"strategy": strategy})[0]).server
    change = "apply" if name == "allreduce" else "push"
    push, look = getattr(kind, change), Trainer._look

    def note_and_push(server, *arguments):
        words, at = server.words, server.layout.slot(0)
        pushed.append(words[at + SIDES[words[at + SLOT_REPORTED]] + STEPS])
        return push(server, *arguments)

    def note_and_look(one):
        looked.append((one.counters.steps, one.leases.committed_batches))
        look(one)

    monkeypatch.setattr(kind, change, note_and_push)
    monkeypatch.setattr(Trainer, "_look", note_and_look)
    monkeypatch.setattr(trainer, "_LOOK_S", 0.0)
    assert aimass.train("iris", strategy=strategy, epochs=2).wait().metrics()["steps"] == 8
    assert pushed == list(range(1, 9))
    if name != "model_averaging":  # whose mean is taken as the next work is claimed
        assert sorted(set(looked)) == [(step, step) for step in range(1, 9)]


@pytest.fixture(scope="module")
def weighted():
    return weighed_rows()


SETTINGS = {"model": "linear", "optimizer": "sgd", "lr": 0.5, "epochs": 3}


def test_an_epochs_loss_is_the_mean_over_its_rows_by_their_weights(weighted):
    run = aimass.train(weighted, batch_size=32, **SETTINGS).wait()
    encoded, plan = weighted.train.encoded, plan_leases(run.config, len(weighted.train))
    numbers, targets, weights = (torch.from_numpy(values) for values in (encoded.numbers, encoded.targets, encoded.weights))
    layer = torch.nn.Linear(4, 3)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer, expected = torch.optim.SGD(layer.parameters(), lr=0.5), []
    for epoch in range(3):
        total = 0.0
        leases = range(epoch * plan.leases_per_epoch, (epoch + 1) * plan.leases_per_epoch)
        for rows in torch.from_numpy(np.concatenate([plan.rows(lease) for lease in leases])).split(32):
            loss = (F.cross_entropy(layer(numbers[rows]), targets[rows], reduction="none") * weights[rows]).sum()
            optimizer.zero_grad()
            (loss / weights[rows].sum()).backward()
            optimizer.step()
            total += loss.item()
        expected.append(total / weights.sum().item())
    assert [epoch["train_loss"] for epoch in run.history()] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("strategy", ["allreduce", {"name": "allreduce", "accumulate": 2}, "parameter_server"], ids=str)
def test_rounds_tell_the_loss_of_one_process_on_the_same_rows(strategy, weighted):
    size = 8 if isinstance(strategy, dict) else 16
    rounds = aimass.train(weighted, strategy=strategy, workers=2, batch_size=size, **SETTINGS).wait()
    single = aimass.train(weighted, batch_size=32, **SETTINGS).wait()
    told = [[epoch["train_loss"] for epoch in run.history()] for run in (rounds, single)]
    assert told[0] == pytest.approx(told[1], rel=1e-5)


@pytest.mark.parametrize(("strategy", "workers"), [("single", 0), ("async_sgd", 1), ("load_balanced_sgd", 2), ("incremental_sgd", 2)])
def test_a_batch_of_all_rows_is_global_gradient_descent(strategy, workers):
    data = aimass.data.load("wine")
    run = aimass.train(data, strategy=strategy, workers=workers, batch_size="all", **{**SETTINGS, "epochs": 8}).wait()
    numbers, targets = torch.from_numpy(data.train.encoded.numbers), torch.from_numpy(data.train.encoded.targets)
    weight, bias, expected = torch.zeros(3, 13, requires_grad=True), torch.zeros(3, requires_grad=True), []
    for _ in range(8):
        loss = F.cross_entropy(numbers @ weight.T + bias, targets)
        expected.append(loss.item())
        for parameter, gradient in zip((weight, bias), torch.autograd.grad(loss, (weight, bias)), strict=True):
            parameter.data -= 0.5 * gradient
    assert run.metrics()["steps"] == 8
    assert [epoch["train_loss"] for epoch in run.history()] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("strategy", "workers"), [("single", 0), ("allreduce", 2)])
def test_logistic_regression_with_a_squared_error_equals_a_plain_loop_and_is_saved_with_it(strategy, workers, tmp_path):
    data = aimass.data.load("breast_cancer")
    settings = {"strategy": strategy, "workers": workers, "batch_size": None, "epochs": 6, "lr": 2.0}
    run = aimass.train(data, model="linear", optimizer="sgd", loss="squared_error", **settings).wait()
    numbers, targets = torch.from_numpy(data.train.encoded.numbers), torch.from_numpy(data.train.encoded.targets).float()
    weight, bias, expected = torch.zeros(30, requires_grad=True), torch.zeros(1, requires_grad=True), []
    for _ in range(6):
        loss = (torch.sigmoid(numbers @ weight + bias) - targets).square().mean()
        expected.append(loss.item())
        for parameter, gradient in zip((weight, bias), torch.autograd.grad(loss, (weight, bias)), strict=True):
            parameter.data -= 2.0 * gradient
    assert [epoch["train_loss"] for epoch in run.history()] == pytest.approx(expected, rel=1e-4)
    probabilities = torch.sigmoid(torch.from_numpy(data.test.encoded.numbers) @ weight + bias).detach()
    told = aimass.load(run.model.save(tmp_path / "model")).evaluate(data.test)["loss"]
    assert told == pytest.approx((probabilities - torch.from_numpy(data.test.encoded.targets)).square().mean().item(), rel=1e-4)


def test_a_loss_that_cannot_be_is_refused_and_the_tasks_own_is_no_other(weighted):
    with pytest.raises(UsageError, match="no loss 'log_los'; did you mean 'log_loss'"):
        settle({"loss": "log_los"})
    with pytest.raises(UsageError, match="loss='absolute_error' is none of the task 'multiclass'"):
        aimass.train(weighted, loss="mae")
    assert fit_model(settle({"loss": "log_loss"})[0], weighted)[0] == fit_model(settle({})[0], weighted)[0]
    with pytest.raises(UsageError, match="loss cannot change in a run that goes on"):
        changed(settle({})[0], {"loss": "squared_error"})
