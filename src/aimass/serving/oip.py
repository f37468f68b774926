"""How a model looks to the Open Inference Protocol, V2: its inputs, its outputs and their types. Told from its signature alone.

Source: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PLATFORM = "aimass"
TENSOR_NAMES = ("input", "x")  # under which a model of numbers only takes all its columns as one tensor

NUMPY_TYPES = {
    "BOOL": "?",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
DATATYPES = (*NUMPY_TYPES, "BYTES")
_DATATYPE_OF_KIND = {"numeric": "FP64", "boolean": "BOOL", "categorical": "BYTES", "image": "UINT8", "text": "BYTES"}


def metadata(name: str, versions: Sequence[int | str], signature: Mapping[str, Any]) -> dict[str, Any]:
    """What `GET /v2/models/{name}` answers.

    Args:
        name: the model's.
        versions: those that answer.
        signature: as `Model.signature` gives it.

    >>> inputs = [{"name": "age", "kind": "numeric"}]
    >>> metadata("churn", [1], {"inputs": inputs, "classes": None})["outputs"]
    [{'name': 'prediction', 'datatype': 'FP64', 'shape': [-1]}]
    """
    inputs = [{"name": each["name"], "datatype": _DATATYPE_OF_KIND[each["kind"]], "shape": _shape(each)} for each in signature["inputs"]]
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs(signature["classes"]),
    }


def _shape(given: Mapping[str, Any]) -> list[int]:
    """One value a row, or an image: its height and width, and where there are several, its channels."""
    if given["kind"] != "image":
        return [-1]
    channels, height, width = given["shape"]
    return [-1, height, width] if channels == 1 else [-1, height, width, channels]


def outputs(classes: Sequence[Any] | None) -> list[dict[str, Any]]:
    """What a model gives: a prediction for each row, and for classes their probabilities.

    Args:
        classes: by their ids; None for regression.
    """
    found: list[dict[str, Any]] = [{"name": "prediction", "datatype": prediction_datatype(classes), "shape": [-1]}]
    if classes is not None:
        found.append({"name": "probability", "datatype": "FP64", "shape": [-1]})
        parameters = {"classes": list(classes)}
        found.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, len(classes)], "parameters": parameters})
    return found


def prediction_datatype(classes: Sequence[Any] | None) -> str:
    """The type of `prediction`; classes of several types are given as text.

    >>> prediction_datatype(["no", "yes"]), prediction_datatype([0, 1]), prediction_datatype([False, True]), prediction_datatype(None)
    ('BYTES', 'INT64', 'BOOL', 'FP64')
    """
    types = {float} if classes is None else {type(value) for value in classes}
    if types == {bool}:
        return "BOOL"
    if types == {int} and all(-(2**63) <= value < 2**63 for value in classes or ()):
        return "INT64"
    return "FP64" if types <= {int, float} else "BYTES"
