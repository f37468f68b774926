"""IDX, the format of MNIST: `train-images-idx3-ubyte` with `train-labels-idx1-ubyte` beside it, gzipped or not.

Four bytes (0, 0, the type 8 for unsigned bytes, the number of dimensions), then each dimension as four bytes, the highest first,
then the values. Where the `t10k` files are there, too, they are the test split.

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aimass.core.errors import DataError, StorageError
from aimass.core.memory import free_memory_bytes, has_room
from aimass.data.images import IMAGE, LABEL, MOST_PIXELS
from aimass.data.pixels import image_array
from aimass.data.source import Raw

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIASES = ("idx1_ubyte", "idx3_ubyte")

_IMAGES = re.compile(r"(?P<set>.*)images(?P<dash>[-.])idx3-ubyte(?:\.gz)?\Z")
_UNSIGNED_BYTES = 8


class IdxFormat:
    """Reads images and their labels."""

    def read(self, path: Path) -> Raw:
        """The images of a file and their labels; then, as the test split, those of `t10k`.

        Raises:
            DataError: a file is absent, is none of this format, or is damaged.
            StorageError: it does not fit into memory.
        """
        import numpy as np
        import pyarrow as pa

        images, labels = _both(path)
        num_test = 0
        test = _beside(path, path.name.replace("train-", "t10k-", 1)) if path.name.startswith("train-") else None
        if test is not None:
            more, more_labels = _both(test)
            if more.shape[1:] != images.shape[1:]:
                raise DataError(f"the images of {test} are {_shape(more)} pixels and those of {path} {_shape(images)}; give them one size")
            images, labels = np.concatenate([images, more]), np.concatenate([labels, more_labels])
            num_test = len(more)
        names = pa.DictionaryArray.from_arrays(pa.array(labels.astype(np.int32)), pa.array([str(number) for number in range(256)]))
        table = pa.table({IMAGE: image_array(images[:, None]), LABEL: names})
        return Raw(name=str(path), table=table, target=LABEL, num_test=num_test)


def find_images(folder: Path) -> Path | None:
    """The file of images in a folder in this format; that of training where there are two."""
    found = sorted(path for path in folder.iterdir() if _IMAGES.match(path.name))
    return next((path for path in found if path.name.startswith("train-")), found[0] if found else None)


def read_idx(path: Path, num_dimensions: int) -> NDArray[np.uint8]:
    """The values of one file. No more than its header says is ever unpacked.

    Raises:
        DataError: it is none of this format, has another number of dimensions, or is damaged.
        StorageError: it does not fit into memory.
    """
    import numpy as np

    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no file, though it is called as one; take it out")
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as content:
            shape = _header(content, path, num_dimensions)
            size_bytes = math.prod(shape)
            if not has_room(2 * size_bytes):
                free = (free_memory_bytes() or 0) / 1e9
                raise StorageError(f"{path} holds {size_bytes / 1e9:.1f} GB by its header, and {free:.1f} GB of memory are free")
            values = content.read(size_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path} is damaged: it cannot be unpacked to its end; fetch it again") from None
    except OSError as error:
        raise DataError(f"{path} could not be read ({error.strerror or error}); check the file and try again") from None
    if len(values) != size_bytes:
        what = "more" if len(values) > size_bytes else f"{len(values):,}"
        raise DataError(f"{path} is damaged: its header says {size_bytes:,} values and it holds {what}; fetch it again")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def _header(content: IO[bytes] | Any, path: Path, num_dimensions: int) -> tuple[int, ...]:
    magic = content.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{path} is no IDX file: it begins with {magic.hex(' ') or 'nothing'}, not with 00 00; fetch it again")
    if magic[2] != _UNSIGNED_BYTES:
        raise DataError(f"{path} holds values of the type 0x{magic[2]:02x}; only unsigned bytes, 0x08, are read")
    if magic[3] != num_dimensions:
        what = {1: "labels", 3: "images"}.get(magic[3], f"{magic[3]} dimensions")
        wanted = {1: "labels", 3: "images"}[num_dimensions]
        raise DataError(f"{path} holds {what} and should hold {wanted}; name the file of images, with that of labels beside it")
    sizes = content.read(4 * num_dimensions)
    shape = tuple(int.from_bytes(sizes[start : start + 4], "big") for start in range(0, len(sizes), 4))
    if len(shape) < num_dimensions or 0 in shape:
        raise DataError(f"{path} is damaged: its header ends early, or says that there is nothing; fetch it again")
    if math.prod(shape[1:]) > MOST_PIXELS:
        size = " × ".join(str(side) for side in shape[1:])
        raise DataError(f"{path} holds images of {size} pixels by its header, and {MOST_PIXELS:,} are the most; fetch it again")
    return shape


def _both(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (rows, height, width) and their labels (rows,)."""
    match = _IMAGES.match(path.name)
    images = read_idx(path, 3)
    if match is None:
        raise DataError(f"the labels of {path} cannot be found by its name; call the two ...-images-idx3-ubyte and ...-labels-idx1-ubyte")
    name = f"{match['set']}labels{match['dash']}idx1-ubyte"
    where = _beside(path, name)
    if where is None:
        raise DataError(f"there is no {name} beside {path}, with or without .gz; put the file of labels there")
    labels = read_idx(where, 1)
    if len(labels) != len(images):
        raise DataError(f"{path} has {len(images):,} images and {where} {len(labels):,} labels; fetch the two that belong together")
    return images, labels


def _beside(path: Path, name: str) -> Path | None:
    """A file of that name in the same folder, gzipped or not."""
    plain = name.removesuffix(".gz")
    return next((found for found in (path.with_name(plain), path.with_name(f"{plain}.gz")) if found.is_file()), None)


def _shape(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[1]} × {images.shape[2]}"


PLUGIN = IdxFormat
