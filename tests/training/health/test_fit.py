"""Overfitting and underfitting: what curves of known form are called, and one real run of each."""

import numpy as np
import pytest
from sklearn.datasets import make_classification

import aimass
from aimass.training.health.fit import judge, loss_of_guessing

GUESS = float(np.log(2))


def curve(train, validation):
    return [
        {"epoch": number + 1, "train_loss": float(loss), "validation": {"loss": float(other)}}
        for number, (loss, other) in enumerate(zip(train, validation, strict=True))
    ]


EPOCHS = np.arange(1, 31)
FALLS = 0.7 * np.exp(-EPOCHS / 5)


def test_a_validation_loss_that_rises_while_the_training_loss_falls_is_overfitting():
    parabola = 0.4 + 0.0005 * (EPOCHS - 10.1) ** 2  # so the first of the lowest medians of three is centred at epoch 10
    verdict = judge(curve(FALLS, parabola), GUESS, 1_000)
    assert (verdict.verdict, verdict.since_epoch) == ("overfitting", 10)
    assert "from 0.4" in verdict.message
    assert judge(curve(FALLS, parabola), GUESS, 4) is None, "four rows cannot tell"
    assert judge(curve(np.full(30, 0.35), parabola), GUESS, 1_000) is None, "the training loss did not fall meanwhile"
    assert judge(curve(FALLS, parabola)[:12], GUESS, 1_000) is None, "it has hardly risen yet"


def test_a_training_loss_that_stays_where_a_constant_would_be_is_underfitting():
    flat = GUESS * (1 + 0.01 * np.sin(EPOCHS))
    verdict = judge(curve(np.concatenate([[0.9, 0.8], flat]), np.concatenate([[0.9, 0.8], flat])), GUESS, 100)
    assert (verdict.verdict, verdict.since_epoch) == ("underfitting", 3)
    assert judge(curve(flat * 0.5, flat * 0.5), GUESS, 100) is None, "it has learnt something"
    assert judge(curve(GUESS * 0.99**EPOCHS, GUESS * 0.99**EPOCHS), GUESS, 100) is None, "it still falls"
    assert judge(curve(flat, flat)[:8], GUESS, 100) is None, "too early"
    assert judge(curve(flat, flat), None, 100) is None, "nobody knows what a constant would cost"


def test_a_curve_that_falls_and_stays_is_neither():
    settled = 0.1 + FALLS
    assert judge(curve(settled, 1.1 * settled), GUESS, 1_000) is None
    assert judge([], GUESS, 0) is None
    without = [{**epoch, "validation": {}} for epoch in curve(FALLS, FALLS)]
    assert judge(without, GUESS, 0) is None


@pytest.mark.parametrize(("task", "targets", "expected"), [("binary", [0, 0, 1, 1], GUESS), ("regression", [1.0, 3.0], 1.0)])
def test_the_cost_of_a_constant_is_the_entropy_or_the_variance(task, targets, expected):
    encoded = aimass.data.load("iris").train.encoded
    given = type(encoded)(**{**vars(encoded), "targets": np.array(targets), "weights": None})
    assert loss_of_guessing(task, given) == pytest.approx(expected)


@pytest.mark.parametrize("weights", [None, [1.0, 3.0, 1.0, 0.5]])
@pytest.mark.parametrize(("task", "loss"), [("binary", "squared_error"), ("multiclass", "squared_error"), ("regression", "absolute_error")])
def test_the_cost_of_a_constant_under_another_loss_is_the_least_that_one_has(task, loss, weights):
    encoded = aimass.data.load("iris").train.encoded
    targets = np.array({"regression": [5.0, 1.0, 2.0, 4.0], "binary": [0, 1, 1, 0], "multiclass": [0, 1, 2, 0]}[task])
    given = type(encoded)(**{**vars(encoded), "targets": targets, "weights": None if weights is None else np.array(weights)})
    grid = np.linspace(0, 1, 101)
    if task == "regression":
        constants = (np.abs(targets - constant) for constant in np.linspace(0, 6, 601))
    elif task == "binary":
        constants = ((targets - constant) ** 2 for constant in grid)
    else:
        constants = (((np.eye(3)[targets] - [a, b, 1 - a - b]) ** 2).sum(1) for a in grid for b in grid)
    assert loss_of_guessing(task, given, loss) == pytest.approx(min(np.average(one, weights=weights) for one in constants), abs=1e-3)
    assert loss_of_guessing("regression", given, "huber") is None


def fit_of(run):
    return [envelope.data for envelope in run.events() if envelope.type == "fit_judged"]


def test_a_large_model_on_noise_overfits_and_a_model_that_cannot_see_underfits():
    columns, labels = make_classification(n_samples=160, n_features=20, n_informative=2, flip_y=0.5, random_state=0)
    noise = aimass.data.load({**{f"x{i}": columns[:, i] for i in range(20)}, "label": labels}, target="label")
    run = aimass.train(noise, model={"name": "mlp", "hidden": [64]}, lr=0.01, batch_size=16, epochs=40).wait()
    assert [verdict["verdict"] for verdict in fit_of(run)] == ["overfitting"]
    assert run.metrics()["fit"]["verdict"] == "overfitting"

    generator = np.random.default_rng(0)
    coin = aimass.data.load({"x": generator.normal(size=2_000), "label": generator.integers(0, 2, 2_000)}, target="label")
    run = aimass.train(coin, model="linear", batch_size=64, epochs=12).wait()
    assert [verdict["verdict"] for verdict in fit_of(run)] == ["underfitting"]
    assert "use a larger model" in run.metrics()["fit"]["message"]
