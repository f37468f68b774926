"""Plain text as windows of bytes: from each, a model learns the next byte at every place.

The documents are put one after the other, each ended by a zero byte, and cut into training, validation and test in this order, so
that no window of one overlaps another's. Window i of n bytes of context holds the bytes n·i to n·(i + 1); its last byte is only told.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.core.errors import DataError
from aimass.data.batch import Encoded
from aimass.data.schema import Column, Schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aimass.data.dataset import Dataset, Rows
    from aimass.data.encoder import Encoder
    from aimass.data.values import Missing

CONTEXT = 128
TEXT, TASK = "text", "language"
END = b"\0"
"""What ends a document."""

_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # of characters; those between stand for bytes that are no UTF-8

SUFFIXES = frozenset({".md", ".rst", ".text", ".txt"})
NUM_BYTES = 256


@dataclass(frozen=True, kw_only=True)
class TextColumn:
    """Windows of text.

    Args:
        name: of the column.
        context: how many bytes a model sees at once.
    """

    name: str
    context: int

    kind = "text"
    width = 0

    @classmethod
    def fit(cls, name: str, column: Any) -> TextColumn:
        """There is nothing to fit: the windows tell how long they are."""
        return cls(name=name, context=int(column.type.shape[0]) - 1)

    def windows(self, column: Any) -> NDArray[np.uint8]:
        """The bytes of typed windows. uint8 (rows, context + 1)."""
        import numpy as np

        parts = [chunk.storage.flatten().to_numpy().reshape(len(chunk), self.context + 1) for chunk in column.chunks]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def encode(self, column: Any, rows: NDArray[np.int64] | None) -> Encoded:
        """Each byte of a window is an input, and the one after it its target. Both uint8 (num_rows, context).

        Args:
            column: typed windows.
            rows: the id of each; 0, 1, … where not given. int64 (num_rows,).
        """
        import numpy as np

        windows = self.windows(column)
        return Encoded(
            numbers=np.empty((len(windows), 0), dtype=np.float32),
            categories=np.ascontiguousarray(windows[:, :-1]),
            targets=np.ascontiguousarray(windows[:, 1:]),
            rows=np.arange(len(windows), dtype=np.int64) if rows is None else rows,
        )

    def append(self, value: Any, numbers: list[float], categories: list[int], missing: Missing) -> None:
        """The last bytes of one text, at most `context`. Raises ValueError with the end of a sentence."""
        if not isinstance(value, str):
            raise ValueError("is no text")
        if _HALVES.search(value):
            raise ValueError("has half a character, which UTF-8 cannot write")
        categories += value.encode("utf-8", "surrogateescape")[-self.context :]


def means_text(source: Any, target: str | None, task: str | None) -> bool:
    """Whether `load` shall read a source as text: where the task says so, and of a file or folder of text without a target."""
    from aimass.data.samples import TEXTS

    if task is not None or target is not None or not isinstance(source, (str, os.PathLike)):
        return task == TASK
    path = Path(source).expanduser()
    try:
        if path.is_dir() and str(source) not in TEXTS:
            return bool(text_files(path))
        return path.suffix.lower() in SUFFIXES if path.is_file() else str(source) in TEXTS
    except (OSError, ValueError):
        return False


def text_files(folder: Path) -> list[Path]:
    """The files of text in a folder that holds nothing else, by name; none where it holds anything else."""
    found = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return found if all(path.suffix.lower() in SUFFIXES and path.is_file() for path in found) else []


def read_documents(source: Any) -> tuple[str, list[bytes]]:
    """What a source is called, and its documents: its files, or the rows of its column `text`.

    Raises:
        NotFound: there is no such file or sample.
        DataError: it is no text.
    """
    from aimass.data.source import open_source, read_bytes

    path = Path(source).expanduser() if isinstance(source, (str, os.PathLike)) else None
    files = []
    if path is not None and path.is_dir():
        files = text_files(path)
        if not files:
            raise DataError(f"{path} is no folder of text; give one that holds files ending in {', '.join(sorted(SUFFIXES))} alone")
    elif path is not None and path.is_file() and path.suffix.lower() in SUFFIXES:
        files = [path]
    if files:
        return str(path), [_checked(read_bytes(file, "text to learn from"), str(file)) for file in files]
    raw = open_source(source)
    if TEXT not in raw.table.column_names:
        raise DataError(f"{raw.name} has no column {TEXT!r} to learn language from; there are: {', '.join(raw.table.column_names)}")
    documents = [value for value in raw.table.column(TEXT).to_pylist() if value is not None]
    odd = next((value for value in documents if not isinstance(value, str)), None)
    if odd is not None:
        raise DataError(f"the column {TEXT!r} of {raw.name} holds {str(odd)[:60]!r}, which is no text")
    return raw.name, [_checked(document.encode("utf-8", "surrogateescape"), raw.name) for document in documents]


def load_text(source: Any, fractions: tuple[float, float, float], origin: dict[str, Any] | None) -> Dataset:
    """A data set of windows of text.

    Raises:
        DataError: it is no text, or too little.
    """
    name, documents = read_documents(source)
    whole = b"".join(document + END for document in documents)
    first = round(len(whole) * fractions[0])
    second = first + round(len(whole) * fractions[1]) if fractions[2] else len(whole)
    context = max(1, min(CONTEXT, first - 1))  # of a short text any, until a model says how many it sees
    return _put_together(name, [whole[:first], whole[first:second], whole[second:]], context, origin)


def with_context(data: Dataset, context: int) -> Dataset:
    """The same text in windows of another length.

    Raises:
        DataError: it is too short for that.
    """
    if data.encoder.context == context:
        return data
    return _put_together(data.name, [part.text for part in (data.train, data.validation, data.test)], context, data.origin)


def text_rows(source: Any, encoder: Encoder) -> Rows:
    """All of a text in windows, for a model that is trained."""
    _, documents = read_documents(source)
    return windows_of(b"".join(document + END for document in documents), encoder)


def _put_together(name: str, parts: Sequence[bytes], context: int, origin: dict[str, Any] | None) -> Dataset:
    import pyarrow as pa

    from aimass.data.dataset import Dataset
    from aimass.data.encoder import Encoder

    encoder = Encoder(columns=(TextColumn(name=TEXT, context=context),), task=TASK, target=TEXT, target_kind=TEXT)
    if len(parts[0]) <= context:
        raise DataError(
            f"{name} has {len(parts[0]):,} byte{'s' * (len(parts[0]) != 1)} to train on, and a window takes {context + 1:,}; "
            f"give more text{', or a smaller model.context' * (context > 1)}"
        )
    train, validation, test = (windows_of(part, encoder) for part in parts)
    digest = hashlib.sha256(TASK.encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return Dataset(
        name=name,
        schema=Schema([Column(name=TEXT, kind=TEXT, note=f"windows of {context:,} bytes, of {sum(map(len, parts)):,} in all")]),
        target=TEXT,
        task=TASK,
        encoder=encoder,
        train=train,
        validation=validation,
        test=test,
        fingerprint=digest.hexdigest(),
        table=pa.concat_tables([train.table, validation.table, test.table]),
        origin=origin,
    )


def windows_of(text: bytes, encoder: Encoder) -> Rows:
    """A text, cut as an encoder says."""
    import numpy as np
    import pyarrow as pa

    from aimass.data.dataset import Rows

    context = encoder.context
    count = max(0, (len(text) - 1) // context)
    symbols = np.frombuffer(text, dtype=np.uint8)
    overlapping = np.lib.stride_tricks.sliding_window_view(symbols, context + 1)[::context][:count] if count else symbols[:0]
    storage = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(overlapping).reshape(-1)), context + 1)
    column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), [context + 1]), storage)
    return Rows(table=pa.table({TEXT: column}), ids=np.arange(count, dtype=np.int64), encoder=encoder, text=text)


def _checked(content: bytes, name: str) -> bytes:
    """Refuse what is no text."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name} is UTF-16 text; save it in UTF-8")
    if END in content:
        raise DataError(f"{name} is not text: it holds a zero byte; give text in UTF-8")
    return content.removeprefix(b"\xef\xbb\xbf")


def prompt_of(row: Any) -> str:
    """The text that a row asks to go on with.

    Raises:
        DataError: there is none.

    >>> prompt_of({"text": "Once"})
    'Once'
    """
    if not isinstance(row, Mapping) or not isinstance(row.get(TEXT), str):
        raise DataError(f'{str(row)[:60]!r} holds no text to go on with; give a row such as {{"text": "Once upon a time"}}')
    return checked_prompt(row[TEXT])


def checked_prompt(text: str) -> str:
    """A text, if it can be written in UTF-8.

    Raises:
        DataError: it cannot.
    """
    if _HALVES.search(text):
        raise DataError(f"{text[:60]!a} has half a character, which UTF-8 cannot write; take it out, or give the other half, too")
    return text
