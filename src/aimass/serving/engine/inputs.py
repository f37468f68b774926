"""What `POST /v2/models/{name}/infer` sends: JSON, and after it the bytes of those tensors that are not in it.

Inputs are one tensor for each column, of shape [rows] or [rows, 1]; or, for a model without categories, one tensor of them
all, `input` of shape [rows, columns].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from aimass.core.errors import AimassError, DataError, TooLarge, UsageError, unknown_name
from aimass.data.pixels import ImageColumn
from aimass.serving.engine.failures import about
from aimass.serving.engine.rows import Arrays, BulkEncoder, encode_carefully
from aimass.serving.engine.tensors import GivenTensor, TensorHead, read_tensor
from aimass.serving.oip import TENSOR_NAMES, outputs


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an `infer` asks for.

    Args:
        id: the asker's own, or None.
        outputs: the names, and whether each is to come as bytes.
    """

    id: str | None
    outputs: tuple[tuple[str, bool], ...]


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[TensorHead]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: dict[str, Any] = {}


_decode = msgspec.json.Decoder(_Request).decode


class InferReader:
    """Reads the bodies for one model.

    Args:
        bulk: encodes its rows.

    Attributes:
        max_rows: how many rows one request may have.
    """

    max_rows = 10_000

    def __init__(self, bulk: BulkEncoder) -> None:
        self._bulk = bulk
        self._columns = bulk.encoder.features
        self._images = frozenset(column.name for column in bulk.encoder.columns if isinstance(column, ImageColumn))
        self._outputs = tuple(output["name"] for output in outputs(bulk.encoder.classes))

    def read(self, body: bytes, json_length: int) -> tuple[Arrays, Wanted]:
        """Encoded rows, and what is asked about them.

        Args:
            body: the JSON, then the bytes.
            json_length: how many bytes are JSON; 0 where all are.

        Raises:
            UsageError: it is not what the protocol says, or not for this model.
            DataError: a value cannot be encoded.
            TooLarge: it has too many rows.
        """
        if self._bulk.encoder.context:
            raise UsageError('a language model goes on with text by :predict, as in {"instances": [{"text": "Once"}]}; send it there')
        request = _request(body, json_length)
        wanted = self._wanted(request)
        tensors = _tensors(request, memoryview(body)[json_length or len(body) :])
        columns = self._by_column(tensors)
        return self._encode(columns), wanted

    def _wanted(self, request: _Request) -> Wanted:
        default = request.parameters.get("binary_data_output", False)
        asked = request.outputs if request.outputs else [_Output(name) for name in self._outputs]
        found = []
        for place, output in enumerate(asked):
            if output.name not in self._outputs:
                raise about(unknown_name("output", output.name, self._outputs), f"outputs[{place}].name")
            if output.parameters.get("classification"):
                raise about(UsageError("classification is not offered; ask for 'probabilities'"), f"outputs[{place}].parameters")
            found.append((output.name, output.parameters.get("binary_data", default) is True))
        return Wanted(request.id, tuple(found))

    def _by_column(self, tensors: list[GivenTensor]) -> dict[str, GivenTensor]:
        """One tensor of shape (rows,) for each column."""
        if self._is_whole(tensors):
            tensors = _split(tensors[0], self._columns)
        found: dict[str, GivenTensor] = {}
        for place, tensor in enumerate(tensors):
            if tensor.name not in self._columns:
                raise about(unknown_name("input", tensor.name, self._columns), f"inputs[{place}].name")
            if tensor.name in found:
                raise about(UsageError(f"input {tensor.name!r} is given twice; give each column once"), f"inputs[{place}].name")
            if tensor.shape[1:] not in ((), (1,)) and tensor.name not in self._images:
                raise about(UsageError(f"input {tensor.name!r} has the shape {list(tensor.shape)}; give [rows]"), f"inputs[{place}].shape")
            found[tensor.name] = tensor
        absent = [name for name in self._columns if name not in found]
        if absent:
            shown = ", ".join(repr(name) for name in absent[:8]) + (", ..." if len(absent) > 8 else "")
            raise about(
                DataError(f"{len(absent)} of the model's {len(self._columns)} inputs are absent: {shown}; give each column"), "inputs"
            )
        self._check_rows({tensor.shape[0] for tensor in tensors})
        return found

    def _is_whole(self, tensors: list[GivenTensor]) -> bool:
        if len(tensors) != 1 or tensors[0].name not in TENSOR_NAMES or self._bulk.categorical:
            return False
        tensor = tensors[0]
        if tensor.name in self._columns and (len(tensor.shape) != 2 or len(self._columns) == 1):
            return False
        if len(tensor.shape) != 2 or tensor.shape[1] != len(self._columns) or tensor.datatype == "BYTES":
            wanted = f"give [rows, {len(self._columns)}] of numbers, in the order of the model's columns"
            raise about(
                UsageError(f"input {tensor.name!r} is {tensor.datatype} of shape {list(tensor.shape)}; {wanted}"), "inputs[0].shape"
            )
        return True

    def _check_rows(self, counts: set[int]) -> None:
        if len(counts) > 1:
            raise about(UsageError(f"the inputs have {' and '.join(map(str, sorted(counts)))} rows; give all of them as many"), "inputs")
        count = counts.pop()
        if not count:
            raise about(DataError("the inputs have no row; give at least one"), "inputs")
        if count > self.max_rows:
            raise about(TooLarge(f"there are {count} rows, and one request may have {self.max_rows}; send several requests"), "inputs")

    def _encode(self, columns: dict[str, GivenTensor]) -> Arrays:
        if self._images:
            rows = [_images(columns[name]) if name in self._images else _plain(columns[name]) for name in self._columns]
            return encode_carefully(self._bulk.encoder, list(zip(*rows, strict=True)), "inputs")
        measured = [_raw(columns[column.name], column.kind) for column in self._bulk.measured]
        if self._bulk.exact and not any(part is None for part in measured):
            count = next(iter(columns.values())).shape[0]
            raw = np.stack([part for part in measured if part is not None], axis=1) if measured else np.empty((count, 0))
            numbers = self._bulk.scale(raw)
            texts = [_plain(columns[column.name]) for column in self._bulk.categorical]
            ids = self._bulk.ids(list(zip(*texts, strict=True)) if texts else [()] * count)
            if numbers is not None and ids is not None:
                return numbers, ids
        values = [_plain(columns[name]) for name in self._columns]
        return encode_carefully(self._bulk.encoder, list(zip(*values, strict=True)), "inputs")


def _request(body: bytes, json_length: int) -> _Request:
    if not 0 <= json_length <= len(body):
        raise UsageError(
            f"Inference-Header-Content-Length is {json_length}, and the body has {len(body)} bytes; give the length of the JSON"
        )
    try:
        request = _decode(memoryview(body)[: json_length or len(body)])
    except msgspec.ValidationError as error:
        raise UsageError(f"the body is no inference request: {error}") from None
    except RecursionError:
        raise UsageError("the body is nested too deeply to be read; send lists of plain values") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the body is not JSON ({str(error)[:200]}); where bytes follow the JSON, say its length in Inference-Header-Content-Length"
        ) from None
    if not request.inputs:
        raise about(UsageError("the request has no inputs; give one for each column"), "inputs")
    return request


def _tensors(request: _Request, rest: memoryview[int]) -> list[GivenTensor]:
    found = []
    for place, head in enumerate(request.inputs):
        size = head.parameters.get("binary_data_size")
        binary = None
        if size is not None:
            binary, rest = _take(head, size, rest, f"inputs[{place}].parameters.binary_data_size")
        found.append(read_tensor(head, binary, f"inputs[{place}]"))
    if len(rest):
        raise UsageError(
            f"{len(rest)} bytes at the end of the body belong to no input; give binary_data_size for each input that has bytes"
        )
    return found


def _take(head: TensorHead, size: Any, rest: memoryview[int], param: str) -> tuple[memoryview[int], memoryview[int]]:
    error: AimassError | None = None
    if type(size) is not int or size < 0:
        error = UsageError(f"binary_data_size of input {head.name!r} is {size!r}; give how many bytes it has")
    elif head.data is not msgspec.UNSET:
        error = UsageError(f"input {head.name!r} has both data and binary_data_size; give one of them")
    elif size > len(rest):
        error = UsageError(f"input {head.name!r} has {size} bytes by its binary_data_size, and the body has {len(rest)} left for it")
    if error is not None:
        raise about(error, param)
    return rest[:size], rest[size:]


def _split(tensor: GivenTensor, columns: tuple[str, ...]) -> list[GivenTensor]:
    table = tensor.values.reshape(tensor.shape)
    return [GivenTensor(name, tensor.shape[:1], tensor.datatype, table[:, place]) for place, name in enumerate(columns)]


def _raw(tensor: GivenTensor, kind: str) -> Any:
    """The values as float64, NaN where missing; None where the encoder has to look at each. (rows,)"""
    if tensor.datatype == "BYTES":
        return None
    values = tensor.values.astype(np.float64)
    if kind == "boolean" and not (np.isnan(values) | (values == 0) | (values == 1)).all():
        return None
    return values


def _images(tensor: GivenTensor) -> list[Any]:
    """One array of pixels a row; or of BYTES, base64 of an image file."""
    return _plain(tensor) if isinstance(tensor.values, list) else list(tensor.values.reshape(tensor.shape))


def _plain(tensor: GivenTensor) -> list[Any]:
    values: list[Any] = tensor.values if isinstance(tensor.values, list) else tensor.values.tolist()
    return values
