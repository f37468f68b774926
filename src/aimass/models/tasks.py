"""What a model is for: its loss, its metrics, and how outputs become answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from aimass.core.errors import DataError, TrainingError, unknown_name
from aimass.models import metrics
from aimass.models.losses import ABSOLUTE, CROSS_ENTROPY, HUBER, PRIMARY, SQUARED, loss_for

if TYPE_CHECKING:
    from aimass.data.encoder import Encoder

TASKS = ("binary", "multiclass", "regression", "language")


class Task(ABC):
    """The base of every task. `outputs` are what a module gives for some rows, (rows, num_outputs).

    Attributes:
        name: `binary`, `multiclass`, `regression` or `language`.
        primary: the metric that says which of two models is the better one, and whether `"max"` or `"min"` is.
        rows_at_once: how many rows are evaluated together at most.
        loss_name: which of `models.losses` it has.
    """

    name: ClassVar[str]
    primary: ClassVar[tuple[str, str]]
    rows_at_once: ClassVar[int] = 4096
    loss_name: str = CROSS_ENTROPY

    @abstractmethod
    def num_outputs(self, classes: Sequence[Any] | None) -> int:
        """How many outputs a module has to give for a row."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
        """The loss of each row, shape (rows,), or with `reduction="mean"` their mean."""

    @abstractmethod
    def answers(self, outputs: Tensor, encoder: Encoder) -> list[dict[str, Any]]:
        """What to tell a person about each row."""

    @abstractmethod
    def _quick(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> float:
        """The primary metric."""

    @abstractmethod
    def _metrics(self, outputs: Tensor, targets: Tensor, weights: Any) -> dict[str, float]:
        """Every metric beside the loss."""

    def kept(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What `quick` and `metrics` need of the outputs of some rows, which are theirs to keep while others are evaluated."""
        return outputs

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean loss, Σ w·l / Σ w. A scalar; 0 where all weights are.

        Args:
            outputs: shape (rows, num_outputs).
            targets: class ids, int64 (rows,), or standardised values, float32 (rows,).
            weights: how much each row counts. Shape (rows,), or None for all alike.
        """
        if weights is None:
            return self.losses(outputs, targets, "mean")
        return (self.losses(outputs, targets) * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)

    def quick(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> dict[str, float]:
        """The loss and the primary metric, cheaply, as between epochs.

        Raises:
            DataError: there are no rows.
        """
        _refuse_no_rows(targets)
        loss = self.loss(outputs, targets, weights).item()
        return {"loss": loss, self.primary[0]: self._quick(outputs, targets, weights)}

    def metrics(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> dict[str, float]:
        """Every metric. One that is not defined for these rows is left out.

        Raises:
            DataError: there are no rows.
            TrainingError: an output is not finite.
        """
        _refuse_no_rows(targets)
        if not bool(torch.isfinite(outputs).all()):
            raise TrainingError("the model's outputs are not finite, so it cannot be measured; train it again with a lower learning rate")
        loss = self.loss(outputs, targets, weights).item()
        return {"loss": loss, **self._metrics(outputs.float(), targets, None if weights is None else weights.numpy())}


class Binary(Task):
    """Two classes by one logit z: P(class 1) = σ(z), with the cross entropy as loss, or the squared error (σ(z) − y)².

    Args:
        loss_name: `cross_entropy` or `squared_error`.

    >>> Binary().loss(torch.zeros(2, 1), torch.tensor([0, 1]))
    tensor(0.6931)
    """

    name = "binary"
    primary = PRIMARY[name]

    def __init__(self, loss_name: str = CROSS_ENTROPY) -> None:
        self.loss_name = loss_name

    def num_outputs(self, classes: Sequence[Any] | None) -> int:
        return 1

    def losses(self, outputs: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
        logits = _one_column(outputs)
        if self.loss_name == SQUARED:
            return F.mse_loss(torch.sigmoid(logits), targets.to(logits.dtype), reduction=reduction)
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction=reduction)

    def answers(self, outputs: Tensor, encoder: Encoder) -> list[dict[str, Any]]:
        first, second = encoder.decode_class(0), encoder.decode_class(1)
        logits = _one_column(outputs).double()
        answers = []
        for p_first, p_second in zip(torch.sigmoid(-logits).tolist(), torch.sigmoid(logits).tolist(), strict=True):
            prediction, probability = (second, p_second) if p_second > p_first else (first, p_first)
            answers.append({"prediction": prediction, "probability": probability, "probabilities": {first: p_first, second: p_second}})
        return answers

    def _quick(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> float:
        return _weighted_mean((_one_column(outputs) > 0) == (targets == 1), weights)

    def _metrics(self, outputs: Tensor, targets: Tensor, weights: Any) -> dict[str, float]:
        logits, truth = _one_column(outputs).numpy(), targets.numpy()
        decisions = (logits > 0).astype("int64")
        found = {
            "accuracy": metrics.accuracy(truth, decisions, weights),
            "f1": metrics.f1(truth, decisions, weights),
        }
        counted = truth if weights is None else truth[weights > 0]
        if 0 < counted.sum() < len(counted):
            found["roc_auc"] = metrics.roc_auc(truth, logits, weights)
        return found


class Multiclass(Task):
    """One of K classes by K logits: P = softmax(z), with the cross entropy as loss, or the squared error Σ_k (P_k − [y = k])².

    Args:
        loss_name: `cross_entropy` or `squared_error`.

    >>> Multiclass().loss(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.3863)
    """

    name = "multiclass"
    primary = PRIMARY[name]

    def __init__(self, loss_name: str = CROSS_ENTROPY) -> None:
        self.loss_name = loss_name

    def num_outputs(self, classes: Sequence[Any] | None) -> int:
        assert classes is not None, "a multiclass task has classes"
        return len(classes)

    def losses(self, outputs: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
        logits = _at_least_single(outputs)
        if self.loss_name == SQUARED:
            wrong = torch.softmax(logits, dim=1) - F.one_hot(targets, logits.shape[1])
            each = wrong.square().sum(dim=1)
            return each.mean() if reduction == "mean" else each
        return F.cross_entropy(logits, targets, reduction=reduction)

    def answers(self, outputs: Tensor, encoder: Encoder) -> list[dict[str, Any]]:
        classes = [encoder.decode_class(number) for number in range(outputs.shape[1])]
        answers = []
        for probabilities in torch.softmax(outputs.double(), dim=1).tolist():
            best = max(range(len(classes)), key=probabilities.__getitem__)
            by_class = dict(zip(classes, probabilities, strict=True))
            answers.append({"prediction": classes[best], "probability": probabilities[best], "probabilities": by_class})
        return answers

    def _quick(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> float:
        return _weighted_mean(outputs.argmax(dim=1) == targets, weights)

    def _metrics(self, outputs: Tensor, targets: Tensor, weights: Any) -> dict[str, float]:
        decisions, truth = outputs.argmax(dim=1).numpy(), targets.numpy()
        return {
            "accuracy": metrics.accuracy(truth, decisions, weights),
            "macro_f1": metrics.macro_f1(truth, decisions, weights),
        }


_OF_NUMBERS: dict[str, Callable[..., Tensor]] = {SQUARED: F.mse_loss, ABSOLUTE: F.l1_loss, HUBER: F.huber_loss}


class Regression(Task):
    """A number: the squared error of standardised targets as loss, errors in the target's own unit as metrics.

    The absolute error is met by the median in place of the mean. Huber's loss is ½ e² up to one standard deviation, and |e| − ½ beyond.

    Args:
        loss_name: `squared_error`, `absolute_error` or `huber`.
        target_mean: of the training targets, in their unit.
        target_std: of the training targets, in their unit.

    >>> task = Regression(target_mean=100.0, target_std=10.0)
    >>> task.quick(torch.ones(4, 1), torch.zeros(4))
    {'loss': 1.0, 'rmse': 10.0}
    """

    name = "regression"
    primary = PRIMARY[name]

    def __init__(self, target_mean: float = 0.0, target_std: float = 1.0, loss_name: str = SQUARED) -> None:
        self.target_mean, self.target_std, self.loss_name = target_mean, target_std, loss_name
        self._function = _OF_NUMBERS[loss_name]

    def num_outputs(self, classes: Sequence[Any] | None) -> int:
        return 1

    def losses(self, outputs: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
        return self._function(_one_column(outputs), targets, reduction=reduction)

    def answers(self, outputs: Tensor, encoder: Encoder) -> list[dict[str, Any]]:
        return [{"prediction": value} for value in self._in_units(_one_column(outputs)).tolist()]

    def _in_units(self, values: Tensor) -> Tensor:
        return values.double() * self.target_std + self.target_mean

    def _quick(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> float:
        errors = (_one_column(outputs) - targets).double()
        return self.target_std * math.sqrt(_weighted_mean(errors.square(), weights))

    def _metrics(self, outputs: Tensor, targets: Tensor, weights: Any) -> dict[str, float]:
        predictions, truth = self._in_units(_one_column(outputs)).numpy(), self._in_units(targets).numpy()
        found = {
            "rmse": metrics.rmse(truth, predictions, weights),
            "mae": metrics.mae(truth, predictions, weights),
        }
        if len(truth) > 1:
            found["r2"] = metrics.r2(truth, predictions, weights)
        return found


def build_task(name: str, *, loss: str | None = None, target_mean: float | None = None, target_std: float | None = None) -> Task:
    """The task of a name.

    Args:
        name: `binary`, `multiclass`, `regression` or `language`.
        loss: which of its losses it has; by default the first of `models.losses.LOSSES`.
        target_mean: of the training targets, for regression.
        target_std: of the training targets, for regression.

    Raises:
        UsageError: there is no such task, or it has no such loss.
    """
    match name:
        case "binary":
            return Binary(loss_for(name, loss))
        case "multiclass":
            return Multiclass(loss_for(name, loss))
        case "regression":
            mean, std = 0.0 if target_mean is None else target_mean, 1.0 if target_std is None else target_std
            return Regression(mean, std, loss_for(name, loss))
        case "language":
            from aimass.models.language import Language

            loss_for(name, loss)
            return Language()
    raise unknown_name("task", name, TASKS)


def task_of(encoder: Encoder, loss: str | None = None) -> Task:
    """The task that an encoder was fitted for, with its own loss or another."""
    return build_task(encoder.task, loss=loss, target_mean=encoder.target_mean, target_std=encoder.target_std)


def _at_least_single(outputs: Tensor) -> Tensor:
    """Half precision is too coarse for a loss."""
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


def _one_column(outputs: Tensor) -> Tensor:
    """One number a row, (rows,), of outputs shaped (rows, 1) or (rows,)."""
    return _at_least_single(outputs).reshape(-1)


def _weighted_mean(values: Tensor, weights: Tensor | None) -> float:
    if weights is None:
        return values.double().mean().item()
    return ((values * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)).item()


def _refuse_no_rows(targets: Tensor) -> None:
    if not len(targets):
        raise DataError("there are no rows to measure the model on; give at least one row with its target")
