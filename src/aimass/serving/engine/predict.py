"""What `POST /v1/models/{name}:predict` sends: `{"instances": [row, ...]}`, a row an object of columns or a list of their values."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from aimass.core.errors import AimassError, DataError, TooLarge, UsageError
from aimass.serving.engine.failures import about
from aimass.serving.engine.rows import Arrays, BulkEncoder, encode_carefully, row_decoders

_WANTED = 'give {"instances": [{"column": value, ...}, ...]}'


class PredictReader:
    """Reads the bodies for one model.

    Args:
        bulk: encodes its rows.

    Attributes:
        max_rows: how many rows one request may have.
    """

    max_rows = 10_000

    def __init__(self, bulk: BulkEncoder) -> None:
        self._bulk = bulk
        self._decoders = row_decoders(bulk)

    def read(self, body: bytes) -> list[tuple[Any, ...]] | Arrays:
        """Rows for `BulkEncoder.encode`, or, of a body that is not just as expected, the encoded rows.

        Raises:
            UsageError: it is not JSON, or has no rows.
            DataError: a row cannot be encoded.
            TooLarge: it has too many rows.
        """
        for decode in self._decoders:
            try:
                rows = decode(body)
            except msgspec.ValidationError:
                continue
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                break
            if not 0 < len(rows) <= self.max_rows:
                raise _count_is_off(len(rows), self.max_rows)
            return rows
        return self.read_carefully(body)

    def read_carefully(self, body: bytes) -> Arrays:
        """Encoded rows, one by one. Raises as `read`."""
        instances = _instances(parse_json(body))
        if not 0 < len(instances) <= self.max_rows:
            raise _count_is_off(len(instances), self.max_rows)
        return encode_carefully(self._bulk.encoder, instances)


def parse_json(body: bytes | memoryview[int]) -> Any:
    """What the JSON says.

    Raises:
        UsageError: it is not JSON. Where it is but for NaN or a number without bounds, the field is named.
    """
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise UsageError("the body is nested too deeply to be read; send rows of plain values") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(bytes(body), error) from None


def _not_json(body: bytes, error: Exception) -> AimassError:
    try:
        lenient = json.loads(body)
    except (ValueError, RecursionError):
        lenient = None
    rows = lenient.get("instances") if isinstance(lenient, dict) else None
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        values = row.items() if isinstance(row, dict) else enumerate(row) if isinstance(row, list) else []
        for name, value in values:
            if isinstance(value, float) and not math.isfinite(value):
                wanted = "give a finite number, or null where it is not known"
                where = f"instances[{number}].{name}" if isinstance(row, dict) else f"instances[{number}][{name}]"
                return about(DataError(f"row {number}: column {name!r} holds {value}, which is no number in JSON; {wanted}"), where)
    return UsageError(f"the body is not JSON ({str(error)[:200]}); {_WANTED}")


def _instances(body: Any) -> list[Any]:
    if not isinstance(body, dict) or "instances" not in body:
        raise about(UsageError(f"the body has no 'instances'; {_WANTED}"), "instances")
    instances = body["instances"]
    if not isinstance(instances, list):
        raise about(UsageError(f"'instances' is no list; {_WANTED}"), "instances")
    return instances


def _count_is_off(count: int, max_rows: int) -> AimassError:
    if not count:
        return about(DataError(f"'instances' has no row; {_WANTED}"), "instances")
    return about(TooLarge(f"there are {count} rows, and one request may have {max_rows}; send them in several requests"), "instances")
