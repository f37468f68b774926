"""Data: files and tables become a `Dataset`, with a schema, a split and an encoder fitted on the training rows alone.

    load ──▶ source (formats, samples) ──▶ infer, conform ──▶ split ──▶ encoder ──▶ Dataset(train, validation, test)

Names are imported when they are first used, so that `import aimass.data` loads neither pyarrow nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aimass.data.batch import Batch as Batch
    from aimass.data.batch import Encoded as Encoded
    from aimass.data.dataset import Dataset as Dataset
    from aimass.data.dataset import Rows as Rows
    from aimass.data.encoder import Encoder as Encoder
    from aimass.data.loading import describe as describe
    from aimass.data.loading import load as load
    from aimass.data.loading import read_rows as read_rows
    from aimass.data.schema import Column as Column
    from aimass.data.schema import Schema as Schema

_HOMES = {
    "Batch": "batch",
    "Column": "schema",
    "Dataset": "dataset",
    "Encoded": "batch",
    "Encoder": "encoder",
    "Rows": "dataset",
    "Schema": "schema",
    "describe": "loading",
    "load": "loading",
    "read_rows": "loading",
}

__all__ = ["Batch", "Column", "Dataset", "Encoded", "Encoder", "Rows", "Schema", "describe", "load", "read_rows"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aimass.data' has no attribute {name!r}")
    value = getattr(import_module(f"aimass.data.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
