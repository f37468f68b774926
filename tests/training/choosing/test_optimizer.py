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
    with pytest.raises(UsageError, match=r"strategy\.shrinkage is lost; set optimizer\.l1"):
        aimass.train("iris", optimizer="ftrl", workers=2, strategy={"name": "block_async_sgd", "shrinkage": 0.1}, home=tmp_path)
    for outer, why in (("ftrl", "would leave where p was"), ("auto", "no gradient is there to measure")):
        with pytest.raises(UsageError, match=f"strategy.outer='{outer}'.*{why}"):
            aimass.train("iris", workers=2, strategy={"name": "model_averaging", "outer": outer}, home=tmp_path)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------------ auto


def chosen_of(run, kind="optimizer_chosen"):
    return [envelope.data for envelope in run.events() if envelope.type == kind]


@pytest.fixture(scope="module")
def shops():
    """Two columns of many categories, of which a batch meets few."""
    return aimass.data.load([{"shop": f"s{n % 500}", "item": f"i{n * 7 % 400}", "sold": str(n % 5 < 2)} for n in range(1000)], "sold")


def test_one_layer_gets_momentum_at_the_rate_of_its_curvature(wine):
    run = aimass.train(wine, model="linear", optimizer="auto", epochs=5).wait()
    (found,) = chosen_of(run)
    assert (found["optimizer"], found["sparsity"]) == ("momentum", 0.0)
    assert found["lr"] == pytest.approx(0.1 / found["curvature"])
    assert f"curvature {found['curvature']:.3g} allows a rate of {found['lr']:.3g}" in found["reason"]
    by_default = aimass.train(wine, model="linear", epochs=5).wait()
    assert run.history()[-1]["train_loss"] < by_default.history()[-1]["train_loss"] / 2
    assert run.config.optimizer.name == "auto"


def test_the_curvature_is_the_largest_eigenvalue_of_the_hessian(wine):
    from aimass.models.tasks import task_of
    from aimass.training.choosing.measuring import measure
    from aimass.training.opening import open_learner
    from aimass.training.settling import settle

    learner = open_learner(settle({"model": "linear"})[0], wine, task_of(wine.encoder), None)
    before = learner.parameters.clone()
    found = measure(learner, wine, len(wine.train), 0)
    assert torch.equal(learner.parameters, before)
    numbers = torch.from_numpy(wine.train.encoded.numbers)
    inputs = torch.cat([numbers, torch.ones(len(numbers), 1)], dim=1)
    guess = torch.full((3,), 1 / 3)  # all parameters are 0, so every class is as likely
    hessian = torch.kron(torch.diag(guess) - torch.outer(guess, guess), inputs.T @ inputs / len(inputs))
    assert found.curvature == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=0.02)
    assert found.parameters == hessian.shape[0]


def test_several_layers_get_adam_to_the_bit(wine):
    model = {"name": "mlp", "hidden": [32], "dropout": 0.3}
    run = aimass.train(wine, model=model, optimizer={"name": "auto", "lr": 0.003, "weight_decay": 0.01}, epochs=2).wait()
    (found,) = chosen_of(run)
    assert (found["optimizer"], found["lr"]) == ("adam", 0.003)
    same = aimass.train(wine, model=model, optimizer={"name": "adam", "lr": 0.003, "weight_decay": 0.01}, epochs=2).wait()
    assert torch.equal(vector_of(run), vector_of(same))


@pytest.mark.parametrize(
    ("model", "others", "expected"),
    [("linear", {}, "ftrl"), ("linear", {"weight_decay": 0.01}, "adagrad"), ({"name": "mlp", "hidden": [4]}, {}, "adagrad")],
)
def test_sparse_gradients_get_rates_by_element(model, others, expected, shops):
    run = aimass.train(shops, model=model, optimizer={"name": "auto", **others}, epochs=1).wait()
    (found,) = chosen_of(run)
    assert found["optimizer"] == expected
    assert found["sparsity"] > 0.8
    assert found["reason"].startswith(f"{found['sparsity']:.0%} of a gradient is 0")


def test_an_update_that_takes_long_gets_fewer_bytes(wine, monkeypatch):
    from aimass.training.choosing import optimizer

    monkeypatch.setattr(optimizer, "LONG_UPDATE", 0.02)  # a network of this size is over it on any machine, however busy
    run = aimass.train(wine, model={"name": "mlp", "hidden": [512, 512]}, batch_size=1, optimizer="auto", max_steps=20).wait()
    (found,) = chosen_of(run)
    assert found["optimizer"] == "momentum"
    assert found["update_share"] >= 0.02
    assert "Adam's update would take" in found["reason"]


def test_what_was_chosen_is_kept_and_given_up_for_another(wine):
    first = aimass.train(wine, model="linear", optimizer="auto", max_steps=9).wait()
    (found,) = chosen_of(first)
    longer = first.resume(max_steps=20).wait()
    assert chosen_of(longer) == [found]
    whole = aimass.train(wine, model="linear", optimizer="auto", max_steps=20).wait()
    assert torch.equal(vector_of(longer), vector_of(whole))
    other = longer.resume(max_steps=25, optimizer="sgd").wait()
    assert chosen_of(other) == [found]
    again = other.resume(max_steps=30, optimizer="auto").wait()
    assert len(chosen_of(again)) == 2


def test_settings_of_one_method_cannot_stand_beside_auto():
    with pytest.raises(UsageError, match="momentum is not a setting of the optimizer 'auto'"):
        aimass.train("iris", optimizer={"name": "auto", "momentum": 0.9})
