"""Tensors of the Open Inference Protocol: as JSON, or as bytes that follow the JSON."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from aimass.core.errors import AimassError, UsageError, unknown_name
from aimass.serving.engine.failures import about
from aimass.serving.oip import DATATYPES, NUMPY_TYPES

_LENGTH = struct.Struct("<I")
_MOST_DIMENSIONS = 8


class TensorHead(msgspec.Struct):
    """A tensor as the request's JSON describes it."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = msgspec.UNSET
    parameters: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class GivenTensor:
    """A tensor of a request.

    Args:
        name: of the input.
        shape: of one or two dimensions.
        datatype: as the protocol calls it.
        values: all values in row-major order; a list of texts, or None where missing, for BYTES.
    """

    name: str
    shape: tuple[int, ...]
    datatype: str
    values: Any


def read_tensor(head: TensorHead, binary: memoryview[int] | None, param: str) -> GivenTensor:
    """The tensor that is described.

    Args:
        head: the description.
        binary: its bytes, where it has any.
        param: which field of the request it is, for errors.

    Raises:
        UsageError: type, shape and data do not go together.
    """
    if head.datatype not in DATATYPES:
        raise about(unknown_name("datatype", head.datatype, DATATYPES), f"{param}.datatype")
    if not 1 <= len(head.shape) <= _MOST_DIMENSIONS or min(head.shape) < 0:
        raise about(UsageError(f"input {head.name!r} has the shape {head.shape}; give [rows] or [rows, columns]"), f"{param}.shape")
    count = math.prod(head.shape)
    try:
        values = _from_json(head, count) if binary is None else _from_bytes(head, binary, count)
    except UsageError as error:
        raise about(error, f"{param}.data") from None
    return GivenTensor(head.name, tuple(head.shape), head.datatype, values)


def bytes_of(values: Any, datatype: str) -> bytes:
    """The binary form of values.

    Args:
        values: an array, or a list of texts for BYTES.
        datatype: as the protocol calls it.
    """
    if datatype != "BYTES":
        return np.ascontiguousarray(values, dtype=NUMPY_TYPES[datatype]).tobytes()
    texts = [text.encode() for text in values]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def _from_json(head: TensorHead, count: int) -> Any:
    if not isinstance(head.data, list):
        raise UsageError(f"input {head.name!r} has no data; give a list, or bytes after the JSON with the parameter binary_data_size")
    flat = _flat(head.data, count)
    if len(flat) != count:
        shown = "more" if len(flat) > count else len(flat)
        raise UsageError(f"input {head.name!r} has {shown} values, and the shape {head.shape} takes {count}")
    if head.datatype == "BYTES":
        return _checked(head, flat, (str, type(None)), "texts, or null where missing")
    if head.datatype == "BOOL":
        return np.array(_checked(head, flat, (bool,), "true or false"), dtype=np.bool_)
    if head.datatype.startswith("FP"):
        given = _checked(head, flat, (float, int, type(None)), "numbers, or null where missing")
        with np.errstate(over="ignore"):
            return np.array(given, dtype=np.float64).astype(NUMPY_TYPES[head.datatype])
    given = _checked(head, flat, (int,), "whole numbers")
    try:
        return np.array(given, dtype=NUMPY_TYPES[head.datatype])
    except OverflowError:
        raise UsageError(f"input {head.name!r} has a number that {head.datatype} does not hold; give a wider datatype") from None


def _checked(head: TensorHead, flat: list[Any], types: tuple[type, ...], wanted: str) -> list[Any]:
    odd = {type(value) for value in flat} - set(types)
    if odd:
        shown = next(value for value in flat if type(value) in odd)
        raise UsageError(f"input {head.name!r} holds {repr(shown)[:80]}; {head.datatype} takes {wanted}")
    return flat


def _flat(data: list[Any], count: int) -> list[Any]:
    """Nested lists as one; of more than `count` values at least one more than that.

    Each value is looked at once, and not by recursion, since a request says how deep it is.

    >>> _flat([[1, [2]], 3], 3)
    [1, 2, 3]
    """
    if list not in set(map(type, data)):
        return data
    flat: list[Any] = []
    under_way = [iter(data)]
    while under_way and len(flat) <= count:
        for value in under_way[-1]:
            if type(value) is list:
                under_way.append(iter(value))
                break
            flat.append(value)
            if len(flat) > count:
                break
        else:
            under_way.pop()
    return flat


def _from_bytes(head: TensorHead, binary: memoryview[int], count: int) -> Any:
    if head.datatype == "BYTES":
        return _texts(head, binary, count)
    dtype = np.dtype(NUMPY_TYPES[head.datatype])
    if len(binary) != count * dtype.itemsize:
        raise _size_is_off(head, f"takes {count * dtype.itemsize}", len(binary))
    return np.frombuffer(binary, dtype=np.uint8).astype(np.bool_) if head.datatype == "BOOL" else np.frombuffer(binary, dtype=dtype)


def _texts(head: TensorHead, binary: memoryview[int], count: int) -> list[str]:
    texts: list[str] = []
    at = 0
    try:
        while at < len(binary) and len(texts) < count:
            end = at + 4 + _LENGTH.unpack_from(binary, at)[0]
            if end > len(binary):
                break
            texts.append(str(binary[at + 4 : end], "utf-8"))
            at = end
    except (struct.error, UnicodeDecodeError):
        raise UsageError(
            f"the bytes of input {head.name!r} are no texts; each is its length as 4 bytes, little-endian, then UTF-8"
        ) from None
    if len(texts) != count or at != len(binary):
        raise _size_is_off(head, f"takes {count} texts, each with 4 bytes of length before it", len(binary))
    return texts


def _size_is_off(head: TensorHead, takes: str, given: int) -> AimassError:
    return UsageError(f"input {head.name!r} has {given} bytes, and {head.datatype} of shape {head.shape} {takes}")
