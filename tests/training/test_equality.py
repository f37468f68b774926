"""What training promises about its result, against plain PyTorch and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from training.plain import assert_same, train_plainly

import aimass


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        ({"name": "sgd", "lr": 0.05}, lambda p: torch.optim.SGD(p, lr=0.05)),
        ({"name": "momentum", "lr": 0.02}, lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
        ({"name": "adam", "lr": 0.001}, lambda p: torch.optim.Adam(p, lr=0.001)),
        (
            {"name": "adam", "lr": 0.001, "weight_decay": 0.01, "decay_bias": True},
            lambda p: torch.optim.Adam(p, lr=0.001, weight_decay=0.01),
        ),
        (
            {"name": "adamw", "lr": 0.001, "weight_decay": 0.1, "decay_bias": True},
            lambda p: torch.optim.AdamW(p, lr=0.001, weight_decay=0.1),
        ),
    ],
    ids=["sgd", "momentum", "adam", "adam, coupled decay", "adamw"],
)
@pytest.mark.parametrize("strategy", ["single", "async_sgd", "parameter_server"])
def test_workers_0_equals_a_plain_loop(optimizer, reference, strategy):
    data = aimass.data.load("digits")
    settings = {"model": "mlp", "strategy": strategy, "optimizer": optimizer, "epochs": 3, "batch_size": 50, "seed": 3}
    run = aimass.train(data, **settings).wait()

    assert_same(run.model, train_plainly(data, settings, reference))


@pytest.mark.parametrize("strategy", ["parameter_server", "allreduce", "load_balanced_sgd"])
def test_all_rows_divided_between_the_workers_of_a_round_equal_a_plain_step_on_all(strategy):
    data = aimass.data.load("wine")
    settings = {"model": "linear", "optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 4, "seed": 2}
    size = len(data.train) // 3 + 1  # parts of different sizes
    assert 2 * size < len(data.train) < 3 * size
    run = aimass.train(data, strategy=strategy, workers=3, batch_size="all" if strategy == "load_balanced_sgd" else size, **settings).wait()

    assert_same(run.model, train_plainly(data, {**settings, "batch_size": None}, lambda p: torch.optim.SGD(p, lr=0.1)))


def test_one_worker_process_equals_none():
    data = aimass.data.load("wine")
    results = [aimass.train(data, workers=workers, strategy="async_sgd", epochs=3, seed=1).wait().model for workers in (0, 1)]
    for (_, here), (_, there) in zip(*[model.module.named_parameters() for model in results], strict=True):
        torch.testing.assert_close(here, there, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_logistic_regression_agrees_with_scikit_learn(name):
    """With λ = 1/(C n) on the weights alone, both minimise the same convex function."""
    data = aimass.data.load(name)
    numbers, targets = data.train.encoded.numbers, data.train.encoded.targets
    reference = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(numbers, targets)
    decay = 1.0 / len(targets)
    settings = {"model": "linear", "batch_size": len(targets), "epochs": 4000, "checkpoint": {"every": 1000}}
    optimizer = {"name": "momentum", "lr": 0.2, "weight_decay": decay, "nesterov": True}
    model = aimass.train(data, **settings, optimizer=optimizer).wait().model
    ours = np.array([answer["probability"] for answer in model.predict(data.test)])
    theirs = reference.predict_proba(data.test.encoded.numbers).max(axis=1)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    predicted = [answer["prediction"] for answer in model.predict(data.test)]
    assert predicted == [data.encoder.decode_class(i) for i in reference.predict(data.test.encoded.numbers)]


def test_async_sgd_with_2_workers_reaches_single_process_accuracy_on_digits():
    """Over 3 seeds of split, parameters and order: 97% on average with and without workers, and no seed falls behind."""
    accuracies = {0: [], 2: []}
    for seed in range(3):
        data = aimass.data.load("digits", seed=seed, split=(0.75, 0.0, 0.25))
        settings = {"model": "mlp", "epochs": 25, "seed": seed, "batch_size": 16, "lr": 0.002, "schedule": "cosine"}
        for workers, found in accuracies.items():
            found.append(aimass.train(data, workers=workers, **settings).wait().model.evaluate(data.test)["accuracy"])
    assert np.mean(accuracies[0]) >= 0.97
    assert np.mean(accuracies[2]) >= 0.97
    assert min(np.subtract(accuracies[2], accuracies[0])) >= -0.02
