"""Optimizers that torch lacks, in runs: under strategies against a plain loop, and what a run settles about them."""

import pytest
import torch
from training.plain import assert_same, train_plainly

import aimass
from aimass.core.errors import UsageError
from aimass.optim import AdagradDA, Ftrl, ProximalSGD

FTRL = {"lr": 0.2, "l1": 0.003, "l2": 0.01}
CASES = [
    ({"name": "ftrl", **FTRL}, lambda p: Ftrl(p, **FTRL, keep_start=True), "single", 0, "mlp"),
    ({"name": "ftrl", **FTRL}, lambda p: Ftrl(p, **FTRL), "parameter_server", 2, "linear"),
    ({"name": "adagrad_da", "l1": 0.003}, lambda p: AdagradDA(p, l1=0.003, keep_start=True), "parameter_server", 2, "mlp"),
    ({"name": "adagrad_da", "l1": 0.003}, lambda p: AdagradDA(p, l1=0.003), "single", 0, "linear"),
    (
        {"name": "proximal_sgd", "lr": 0.1, "l1": 0.01, "box": (-0.3, 0.3)},
        lambda p: ProximalSGD(p, lr=0.1, l1=0.01, box=(-0.3, 0.3)),
        "parameter_server",
        2,
        "mlp",
    ),
]


@pytest.fixture(scope="module")
def wine():
    return aimass.data.load("wine")


def vector_of(run):
    return torch.cat([tensor.detach().flatten() for tensor in run.model.module.parameters()])


@pytest.mark.parametrize(("optimizer", "reference", "strategy", "workers", "model"), CASES)
def test_a_run_equals_a_plain_loop(optimizer, reference, strategy, workers, model, wine):
    settings = {"model": model, "strategy": strategy, "workers": workers, "optimizer": optimizer, "epochs": 2, "batch_size": 16}
    run = aimass.train(wine, **settings).wait()
    assert_same(run.model, train_plainly(wine, settings, reference, leases_at_once=workers or None))


def test_l1_under_asynchronous_workers_leaves_few_weights_and_a_good_model():
    cancer = aimass.data.load("breast_cancer")
    settings = {"model": "linear", "workers": 2, "strategy": "async_sgd", "epochs": 8}
    run = aimass.train(cancer, optimizer={"name": "ftrl", "l1": 5.0}, **settings).wait()
    zeros = (vector_of(run) == 0).float().mean()
    assert 0.15 < zeros < 0.95
    assert run.model.evaluate(cancer.test)["accuracy"] > 0.9


def test_a_resumed_run_has_the_bits_of_one_that_was_not(wine):
    for optimizer in ({"name": "ftrl", **FTRL}, {"name": "adagrad_da", "l1": 0.003}):
        whole = aimass.train(wine, optimizer=optimizer, max_steps=30).wait()
        halves = aimass.train(wine, optimizer=optimizer, max_steps=13).wait().resume(max_steps=30).wait()
        assert torch.equal(vector_of(halves), vector_of(whole))


def test_an_optimizer_that_takes_over_goes_on_from_where_the_other_was(wine):
    first = aimass.train(wine, model="linear", epochs=30, lr=0.02).wait()
    before, accuracy = vector_of(first), first.model.evaluate(wine.validation)["accuracy"]
    second = first.resume(epochs=31, optimizer={"name": "ftrl", "lr": 0.001}).wait()
    assert 0 < (vector_of(second) - before).abs().max() < 0.05
    assert second.model.evaluate(wine.validation)["accuracy"] >= accuracy - 0.05
    third = second.resume(epochs=32).wait()
    assert (vector_of(third) - before).abs().max() < 0.1
    with pytest.raises(UsageError, match="adagrad_da weighs l1 and l2 by the steps of the whole run"):
        third.resume(epochs=33, optimizer={"name": "adagrad_da", "l1": 0.1}).wait()


def test_p_from_sums_is_refused_where_workers_step_on_their_own(tmp_path):
    with pytest.raises(
        UsageError, match=r"'ftrl' computes p from sums .* would undo what the others found; choose one of: sgd, .*proximal_sgd"
    ):
        aimass.train("iris", optimizer="ftrl", workers=2, strategy={"name": "parameter_server", "push": "delta"}, home=tmp_path)
    assert not list(tmp_path.iterdir())
