"""Image files, as Pillow reads them. What could hurt is refused before it is decoded."""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.core.errors import DataError, StorageError, UsageError
from aimass.core.memory import free_memory_bytes, has_room
from aimass.data.pixels import Shape, image_array, shown
from aimass.data.source import Raw

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

IMAGE, LABEL = "image", "label"
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

_DECODERS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others of Pillow's start programs, or are seldom tried
_GREY = frozenset({"1", "L", "LA"})
_DEEP = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
MOST_PIXELS = 1 << 26


@dataclass(frozen=True, kw_only=True)
class Files:
    """Rows that are files."""

    paths: Sequence[Path]

    def of(self, row: int) -> str:
        """The file of row number `row`."""
        return str(self.paths[row])


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What all images shall be; None where the files decide, which then have to be alike.

    Args:
        channels: 1 for grey, 3 for red, green and blue.
        size: height and width.
    """

    channels: int | None = None
    size: tuple[int, int] | None = None


def read_size(value: Any) -> tuple[int, int] | None:
    """Height and width, as people write them.

    >>> read_size("28x32"), read_size(28), read_size([28, 32]), read_size(None)
    ((28, 32), (28, 28), (28, 32), None)

    Raises:
        UsageError: it is no size.
    """
    if value is None:
        return None
    given = value
    if isinstance(value, str):
        value = [int(side) for side in re.split(r"[x×*,]", value) if side.strip().isdecimal()]
        value = value[0] if len(value) == 1 else value
    sides = [value, value] if isinstance(value, int) else list(value) if isinstance(value, Sequence) else []
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= 4096 for side in sides):
        raise UsageError(f"image_size={given!r}: give height and width in pixels, up to 4096, such as 28, (28, 32) or '28x32'")
    return sides[0], sides[1]


def find_classes(folder: Path) -> list[tuple[Path, str]]:
    """The images in the folders of a folder, each with its class: the folder's name. In order of their names."""
    found: list[tuple[Path, str]] = []
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.name.startswith("."):
            found += [(path, below.name) for path in images_in(below)]
    return found


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, by name."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]


def read_images(paths: Sequence[Path], wanted: Wanted) -> Any:
    """Image files as one Arrow column. They are resized where `wanted` says a size.

    Raises:
        DataError: one is no image, or too large, or they have several sizes and none is wanted.
        StorageError: they do not fit into memory.
    """
    import numpy as np

    headers = [_header(path) for path in paths]
    channels = wanted.channels or (1 if all(grey for *_, grey in headers) else 3)
    height, width = wanted.size or headers[0][:2]
    if wanted.size is None:
        odd = next((place for place, header in enumerate(headers) if header[:2] != headers[0][:2]), None)
        if odd is not None:
            raise DataError(
                f"{paths[0]} has {height} × {width} pixels and {paths[odd]} {headers[odd][0]} × {headers[odd][1]}; "
                f"give image_size=({height}, {width}), or another, to resize all of them"
            )
    size_bytes = len(paths) * channels * height * width
    if not has_room(size_bytes):
        free = (free_memory_bytes() or 0) / 1e9
        raise StorageError(
            f"{len(paths):,} images of {shown((channels, height, width))} take {size_bytes / 1e9:.1f} GB, and {free:.1f} GB of memory are "
            "free; give a smaller image_size, or use fewer images"
        )
    pixels = np.empty((len(paths), channels, height, width), dtype=np.uint8)
    for place, path in enumerate(paths):
        try:
            with _opened(path) as image:
                pixels[place] = _pixels(image, (channels, height, width))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} {_why(error)}; save it again, or take it out") from None
    return image_array(pixels)


def read_image(path: Path, wanted: Wanted) -> Raw:
    """One image file, as a single row.

    Raises:
        DataError: it is no image, or too large.
    """
    import pyarrow as pa

    return Raw(name=str(path), table=pa.table({IMAGE: read_images([path], wanted)}), places=Files(paths=[path]))


def decode(value: bytes | str, shape: Shape) -> NDArray[np.uint8]:
    """One image of which the file's bytes are given, or base64 of them, resized to `shape`.

    Raises:
        ValueError: it is none; the message ends a sentence about it.
    """
    if isinstance(value, str):
        try:
            value = base64.b64decode(value.partition(",")[2] if value.startswith("data:") else value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("is no base64 of an image file") from None
    try:
        with _opened(io.BytesIO(value)) as image:
            return _pixels(image, shape)
    except OSError as error:
        raise ValueError(_why(error)) from None


def _header(path: Path) -> tuple[int, int, bool]:
    """Height, width, and whether it is grey, without decoding it."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no file, though it is called as one; take it out")  # a pipe would keep whoever opens it waiting
    try:
        with _opened(path) as image:
            return image.height, image.width, image.mode in _GREY
    except (OSError, ValueError) as error:
        raise DataError(f"{path} {_why(error)}; save it again, or take it out") from None


def _opened(file: Any) -> Image:
    """An image of which the header was read. Raises OSError, or ValueError with the end of a sentence."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its size, which is looked at below
            image = Image.open(file, formats=_DECODERS)
    except Image.DecompressionBombError:
        raise ValueError(f"has more than {MOST_PIXELS:,} pixels") from None
    except SyntaxError:
        raise ValueError("is damaged") from None
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise ValueError(f"has {image.height} × {image.width} pixels, and {MOST_PIXELS:,} are the most")
    if image.mode in _DEEP:
        image.close()
        raise ValueError("has more than 8 bits a channel")
    return image


def _pixels(image: Image, shape: Shape) -> NDArray[np.uint8]:
    """uint8 (channels, height, width)."""
    import numpy as np

    channels, height, width = shape
    if channels not in (1, 3):
        raise ValueError(f"is a file, and files have 1 or 3 channels, not {channels}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # transparency and damaged metadata, which make no pixel
            plain = image.convert("L" if channels == 1 else "RGB")
    except (SyntaxError, EOFError, IndexError):
        raise ValueError("is damaged") from None
    if plain.size != (width, height):
        plain = plain.resize((width, height))
    found = np.asarray(plain, dtype=np.uint8)
    return found[None] if channels == 1 else found.transpose(2, 0, 1)


def _why(error: Exception) -> str:
    """What is wrong with an image file, as the end of a sentence."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "is no image that can be read (PNG, JPEG, PGM, PPM, BMP, GIF, TIFF, WebP)"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return str(error)
