"""A network's outputs as answers, and as the JSON of a `predict`. The same numbers as `Model.predict` gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aimass.data.text import TEXT
from aimass.models.language import text_of
from aimass.models.tasks import Regression

if TYPE_CHECKING:
    from aimass.models.model import Model

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the outputs of some rows mean.

    Args:
        values: in the target's unit, for regression. float64 (num_rows,)
        probabilities: of each class, for classification. float64 (num_rows, num_classes)
        best: the likeliest class of each row, the first of equal ones. int64 (num_rows,)
        finite: whether each row's outputs are numbers; None where all are. bool (num_rows,)
        texts: how each row's text goes on, of a language model.
    """

    values: NDArray[np.float64] | None
    probabilities: NDArray[np.float64] | None
    best: NDArray[np.int64] | None
    finite: NDArray[np.bool_] | None
    texts: list[str] | None = None

    def of(self, start: int, end: int) -> Decisions:
        """Those of the rows from `start` to before `end`."""
        return Decisions(
            None if self.values is None else self.values[start:end],
            None if self.probabilities is None else self.probabilities[start:end],
            None if self.best is None else self.best[start:end],
            None if self.finite is None else self.finite[start:end],
            None if self.texts is None else self.texts[start:end],
        )


def decide(model: Model, outputs: Tensor) -> Decisions:
    """Turn outputs into decisions.

    Args:
        model: whose they are.
        outputs: float32 (num_rows, num_outputs).
    """
    if model.encoder.context:
        return Decisions(None, None, None, None, [text_of(row) for row in outputs])
    found = outputs.numpy().reshape(len(outputs), -1)
    finite = None if np.isfinite(found).all() else np.isfinite(found).all(axis=1)
    exact = outputs.double()
    if isinstance(model.task, Regression):
        values = (exact.reshape(-1) * model.task.target_std + model.task.target_mean).numpy()
        if finite is None and not np.isfinite(values).all():
            finite = np.isfinite(values)
        return Decisions(values, None, None, finite)
    if model.task.name == "binary":
        logits = exact.reshape(-1)
        probabilities = torch.sigmoid(torch.stack((-logits, logits), dim=1)).numpy()
    else:
        probabilities = torch.softmax(exact, dim=1).numpy()
    return Decisions(None, probabilities, probabilities.argmax(axis=1), finite)


def json_key(value: Any) -> str:
    """A class as the key of a JSON object.

    >>> json_key("a"), json_key(3), json_key(True)
    ('a', '3', 'true')
    """
    return value if isinstance(value, str) else _encode(value).decode()


class PredictWriter:
    """Writes the bodies for one model.

    Args:
        model: whose answers they are.
        name: what the registry calls the model.
        version: its number.
    """

    def __init__(self, model: Model, name: str, version: int) -> None:
        self._end = b"," + _encode({"model": name, "version": version})[1:]
        self._classes = model.encoder.classes
        self._by_class: Callable[[list[float]], Any] | None = None
        if self._classes is not None:
            self._by_class = _by_class([json_key(value) for value in self._classes])

    def answers(self, decisions: Decisions) -> list[Any]:
        """One answer a row, ready for `body`."""
        if decisions.texts is not None:
            return [{TEXT: text} for text in decisions.texts]
        if decisions.values is not None:
            return [{"prediction": value} for value in decisions.values.tolist()]
        assert decisions.probabilities is not None
        assert decisions.best is not None
        assert self._by_class is not None
        assert self._classes is not None
        classes, by_class = self._classes, self._by_class
        pairs = zip(decisions.best.tolist(), decisions.probabilities.tolist(), strict=True)
        return [_Answer(classes[best], row[best], by_class(row)) for best, row in pairs]

    def body(self, answers: list[Any]) -> bytes:
        """The whole body of a response."""
        return b'{"predictions":' + _encode(answers) + self._end


class _Answer(msgspec.Struct, gc=False):
    prediction: Any
    probability: float
    probabilities: Any


def _by_class(keys: list[str]) -> Callable[[list[float]], Any]:
    """What gives an object with a probability under each key."""
    names = {f"c{place}": key for place, key in enumerate(keys)}
    try:
        row = msgspec.defstruct("Probabilities", [(field, float) for field in names], rename=names, gc=False)
    except ValueError:  # a class has a quote or a control character in it
        return lambda probabilities: dict(zip(keys, probabilities, strict=True))
    return lambda probabilities: row(*probabilities)
