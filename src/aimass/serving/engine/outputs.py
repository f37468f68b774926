"""Answers as the Open Inference Protocol has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from aimass.serving.engine.answers import Decisions, json_key
from aimass.serving.engine.tensors import bytes_of
from aimass.serving.oip import NUMPY_TYPES, prediction_datatype

if TYPE_CHECKING:
    from aimass.models.model import Model
    from aimass.serving.engine.inputs import Wanted

_encode = msgspec.json.Encoder().encode


class InferWriter:
    """Writes the bodies for one model.

    Args:
        model: whose answers they are.
        name: what the registry calls the model.
        version: its number.
    """

    def __init__(self, model: Model, name: str, version: int) -> None:
        self._head = {"model_name": name, "model_version": str(version)}
        classes = model.encoder.classes
        self._datatype = prediction_datatype(classes)
        self._classes: Any = None
        if classes is not None:
            texts = self._datatype == "BYTES"
            self._classes = [json_key(value) for value in classes] if texts else np.array(classes, dtype=NUMPY_TYPES[self._datatype])

    def body(self, decisions: Decisions, wanted: Wanted) -> tuple[bytes, int]:
        """The body, and how many bytes of it are JSON where others follow; else 0.

        Args:
            decisions: about the rows of the request.
            wanted: what the request asks for.
        """
        outputs: list[dict[str, Any]] = []
        binary: list[bytes] = []
        for name, as_bytes in wanted.outputs:
            datatype, shape, values = self._output(name, decisions)
            output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
            if as_bytes:
                binary.append(bytes_of(values, datatype))
                output["parameters"] = {"binary_data_size": len(binary[-1])}
            else:
                output["data"] = values if isinstance(values, list) else values.reshape(-1).tolist()
            outputs.append(output)
        own_id = {} if wanted.id is None else {"id": wanted.id}
        head = _encode({**self._head, **own_id, "outputs": outputs})
        return (head + b"".join(binary), len(head)) if binary else (head, 0)

    def _output(self, name: str, decisions: Decisions) -> tuple[str, list[int], Any]:
        """Type, shape and values of one output."""
        if decisions.values is not None:
            return "FP64", [len(decisions.values)], decisions.values
        assert decisions.probabilities is not None
        assert decisions.best is not None
        if name == "probabilities":
            return "FP64", list(decisions.probabilities.shape), decisions.probabilities
        if name == "probability":
            return "FP64", [len(decisions.best)], decisions.probabilities.max(axis=1)
        best = [self._classes[each] for each in decisions.best.tolist()] if self._datatype == "BYTES" else self._classes[decisions.best]
        return self._datatype, [len(decisions.best)], best
