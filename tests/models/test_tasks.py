"""Losses, metrics and answers, against scikit-learn and closed forms."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from aimass.core.errors import DataError, TrainingError, UsageError
from aimass.models.tasks import build_task, task_of

ROWS = 60
TASKS = ("binary", "multiclass", "regression")  # those of one answer a row


def some(task, seed=0):
    """Outputs, targets and weights of some rows."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(ROWS, generator=generator)
    weights[:5] = 0
    if task == "regression":
        return torch.randn(ROWS, 1, generator=generator), torch.randn(ROWS, generator=generator), weights
    if task == "binary":
        return torch.randn(ROWS, 1, generator=generator), torch.randint(0, 2, (ROWS,), generator=generator), weights
    return torch.randn(ROWS, 4, generator=generator), torch.randint(0, 4, (ROWS,), generator=generator), weights


def encoder_with(*classes, mean=None, std=None):
    return SimpleNamespace(classes=classes or None, decode_class=lambda number: classes[number], target_mean=mean, target_std=std)


def scikit_loss(task, outputs, targets, weights):
    if task == "regression":
        return sk.mean_squared_error(targets.numpy(), outputs[:, 0].numpy(), sample_weight=weights)
    probabilities = torch.sigmoid(outputs[:, 0].double()) if task == "binary" else torch.softmax(outputs.double(), 1)
    return sk.log_loss(targets.numpy(), probabilities.numpy(), sample_weight=weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_the_loss_is_scikit_learns(name, weighted):
    outputs, targets, weights = some(name)
    weights = weights if weighted else None
    expected = scikit_loss(name, outputs, targets, None if weights is None else weights.numpy())
    assert build_task(name).loss(outputs, targets, weights).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_equal_weights_change_nothing(name):
    outputs, targets, _ = some(name)
    task = build_task(name)
    for found, expected in [
        (task.loss(outputs, targets, torch.full((ROWS,), 3.0)).item(), task.loss(outputs, targets).item()),
        (task.metrics(outputs, targets, torch.full((ROWS,), 3.0)), task.metrics(outputs, targets)),
        (task.quick(outputs, targets, torch.full((ROWS,), 3.0)), task.quick(outputs, targets)),
    ]:
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_whose_weights_are_all_zero_has_loss_zero(name):
    outputs, targets, _ = some(name)
    outputs.requires_grad_()
    loss = build_task(name).loss(outputs, targets, torch.zeros(ROWS))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))


@pytest.mark.parametrize("name", TASKS)
def test_half_precision_outputs_are_measured_in_single(name):
    outputs, targets, _ = some(name)
    loss = build_task(name).loss(outputs.bfloat16(), targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(build_task(name).loss(outputs.bfloat16().float(), targets).item())


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("weighted", [False, True])
def test_quick_agrees_with_the_metrics(name, weighted):
    outputs, targets, weights = some(name)
    task = build_task(name, target_mean=50.0, target_std=4.0)
    weights = weights if weighted else None
    quick, full = task.quick(outputs, targets, weights), task.metrics(outputs, targets, weights)
    assert set(quick) == {"loss", task.primary[0]}
    assert quick == pytest.approx({key: full[key] for key in quick}, rel=1e-5)


def test_binary_metrics():
    outputs, targets, weights = some("binary")
    found = build_task("binary").metrics(outputs, targets, weights)
    truth, scores, w = targets.numpy(), outputs[:, 0].numpy(), weights.numpy()
    assert set(found) == {"loss", "accuracy", "f1", "roc_auc"}
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, scores > 0, sample_weight=w))
    assert found["f1"] == pytest.approx(sk.f1_score(truth, scores > 0, sample_weight=w))
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, scores, sample_weight=w))


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 1.0, 0.0])])
def test_an_auc_of_one_class_is_left_out(weights):
    targets = torch.tensor([1, 1, 1 if weights is None else 0])
    found = build_task("binary").metrics(torch.tensor([[1.0], [2.0], [0.5]]), targets, weights)
    assert set(found) == {"loss", "accuracy", "f1"}


def test_multiclass_metrics():
    outputs, targets, weights = some("multiclass")
    found = build_task("multiclass").metrics(outputs, targets, weights)
    truth, decisions, w = targets.numpy(), outputs.argmax(1).numpy(), weights.numpy()
    assert set(found) == {"loss", "accuracy", "macro_f1"}
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, decisions, sample_weight=w))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(truth, decisions, sample_weight=w, average="macro"))


def test_regression_metrics_are_in_the_targets_unit():
    outputs, targets, weights = some("regression")
    found = build_task("regression", target_mean=50.0, target_std=4.0).metrics(outputs, targets, weights)
    truth, predicted, w = 50 + 4 * targets.numpy(), 50 + 4 * outputs[:, 0].numpy(), weights.numpy()
    assert set(found) == {"loss", "rmse", "mae", "r2"}
    assert found["rmse"] == pytest.approx(sk.mean_squared_error(truth, predicted, sample_weight=w) ** 0.5)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, predicted, sample_weight=w))
    assert found["r2"] == pytest.approx(sk.r2_score(truth, predicted, sample_weight=w), rel=1e-5)


def test_an_r2_of_one_row_is_left_out():
    assert set(build_task("regression").metrics(torch.zeros(1, 1), torch.zeros(1))) == {"loss", "rmse", "mae"}


def test_binary_answers():
    answers = build_task("binary").answers(torch.tensor([[2.0], [-1.0], [0.0]]), encoder_with("stay", "leave"))
    assert [answer["prediction"] for answer in answers] == ["leave", "stay", "stay"]
    assert answers[0]["probabilities"] == {"stay": pytest.approx(1 / (1 + np.e**2)), "leave": pytest.approx(1 / (1 + np.e**-2))}
    assert answers[1]["probability"] == answers[1]["probabilities"]["stay"]


def test_multiclass_answers_hold_the_original_values():
    outputs = torch.tensor([[0.0, 3.0, 1.0], [5.0, 0.0, 0.0]])
    answers = build_task("multiclass").answers(outputs, encoder_with(7, 8, 9))
    assert [answer["prediction"] for answer in answers] == [8, 7]
    for answer, row in zip(answers, torch.softmax(outputs.double(), 1).tolist(), strict=True):
        assert answer["probabilities"] == pytest.approx(dict(zip((7, 8, 9), row, strict=True)))
        assert answer["probability"] == max(row)


def test_regression_answers_are_in_the_targets_unit():
    task = task_of(SimpleNamespace(task="regression", target_mean=50.0, target_std=4.0))
    assert task.answers(torch.tensor([[1.5], [-1.0]]), encoder_with()) == [{"prediction": 56.0}, {"prediction": 46.0}]


@pytest.mark.parametrize(("name", "classes", "expected"), [("binary", ("a", "b"), 1), ("multiclass", "abcd", 4), ("regression", None, 1)])
def test_how_many_outputs_a_task_needs(name, classes, expected):
    assert build_task(name).num_outputs(classes) == expected


@pytest.mark.parametrize("name", TASKS)
def test_no_rows(name):
    outputs, targets, _ = some(name)
    for measure in (build_task(name).quick, build_task(name).metrics):
        with pytest.raises(DataError, match="there are no rows to measure the model on"):
            measure(outputs[:0], targets[:0])


@pytest.mark.parametrize("name", TASKS)
def test_outputs_that_are_not_finite(name):
    outputs, targets, _ = some(name)
    outputs[3] = float("nan")
    with pytest.raises(TrainingError, match=r"not finite.* lower learning rate"):
        build_task(name).metrics(outputs, targets)
    assert np.isnan(build_task(name).quick(outputs, targets)["loss"])


def test_an_unknown_task():
    with pytest.raises(UsageError, match="no task 'regresion'; did you mean 'regression'"):
        build_task("regresion")


def brier(targets, outputs, weights):
    wrong = torch.softmax(outputs.double(), 1).numpy() - np.eye(4)[targets]
    return np.average((wrong**2).sum(1), weights=weights)


def brier_of_two(targets, outputs, weights):
    return sk.brier_score_loss(targets, torch.sigmoid(outputs[:, 0].double()).numpy(), sample_weight=weights)


def absolute(targets, outputs, weights):
    return sk.mean_absolute_error(targets, outputs[:, 0].numpy(), sample_weight=weights)


def huber(targets, outputs, weights):
    errors = np.abs(outputs[:, 0].numpy() - targets)
    return np.average(np.where(errors < 1, errors**2 / 2, errors - 0.5), weights=weights)


OTHER_LOSSES = {
    ("binary", "squared_error"): brier_of_two,
    ("multiclass", "squared_error"): brier,
    ("regression", "absolute_error"): absolute,
    ("regression", "huber"): huber,
}


@pytest.mark.parametrize(("task", "loss"), OTHER_LOSSES)
def test_a_task_may_have_another_loss_and_keeps_its_metrics(task, loss):
    outputs, targets, weights = some(task)
    built, usual, expected = build_task(task, loss=loss), build_task(task), OTHER_LOSSES[task, loss]
    assert built.loss(outputs, targets).item() == pytest.approx(expected(targets.numpy(), outputs, None), rel=1e-5)
    assert built.loss(outputs, targets, weights).item() == pytest.approx(expected(targets.numpy(), outputs, weights.numpy()), rel=1e-5)
    assert built.quick(outputs, targets, weights)[built.primary[0]] == usual.quick(outputs, targets, weights)[built.primary[0]]


def test_a_loss_of_another_task_is_refused():
    with pytest.raises(UsageError, match="loss='huber' is none of the task 'binary'; leave it out, or choose one of: cross_entropy, sq"):
        build_task("binary", loss="huber")
    with pytest.raises(UsageError, match="is none of the task 'language'"):
        build_task("language", loss="squared_error")
