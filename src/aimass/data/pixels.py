"""A column of images: pixels from 0 to 255, all images of one shape.

In a table it is an Arrow tensor of uint8, (channels, height, width) a row. Its pixels become a row's numbers in that order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aimass.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aimass.data.values import Missing

Shape = tuple[int, int, int]
"""Channels, height and width."""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True)
class ImageColumn:
    """An image, standardised by channel: (pixel − mean) / std.

    Args:
        name: of the column.
        shape: channels, height and width.
        means: of each channel's pixels, which are from 0 to 255, in the training rows.
        stds: their population standard deviations; 1 where all are the same.
    """

    name: str
    shape: Shape
    means: tuple[float, ...]
    stds: tuple[float, ...]

    kind = "image"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return math.prod(self.shape)

    @cached_property
    def levels(self) -> NDArray[np.float32]:
        """What each of the 256 values of a pixel becomes. float32 (channels, 256)."""
        import numpy as np

        values = np.arange(256, dtype=np.float64)
        return np.stack([(values - mean) / std for mean, std in zip(self.means, self.stds, strict=True)]).astype(np.float32)

    @classmethod
    def fit(cls, name: str, column: Any) -> ImageColumn:
        """Fit on the training rows, typed."""
        import numpy as np

        shape = tuple(column.type.shape)
        counts = np.zeros((shape[0], 256), dtype=np.int64)
        for pixels in _blocks(column):
            for channel in range(shape[0]):
                counts[channel] += np.bincount(pixels[:, channel].ravel(), minlength=256)
        values, total = np.arange(256), np.maximum(counts.sum(axis=1), 1)
        means = counts @ values / total
        stds = np.sqrt((counts * (values - means[:, None]) ** 2).sum(axis=1) / total)
        return cls(name=name, shape=shape, means=tuple(means.tolist()), stds=tuple(np.where(stds > 0, stds, 1.0).tolist()))

    def write(self, column: Any, out: NDArray[np.float32]) -> None:
        """Encode a typed column into `out`, float32 (num_rows, width).

        Raises:
            DataError: its images have another shape.
        """
        if tuple(column.type.shape) != self.shape:
            raise DataError(f"column {self.name!r} holds images of {shown(column.type.shape)}, and the model takes {shown(self.shape)}")
        start, size = 0, self.shape[1] * self.shape[2]
        for pixels in _blocks(column):
            for channel, levels in enumerate(self.levels):
                place = slice(channel * size, (channel + 1) * size)
                out[start : start + len(pixels), place] = levels[pixels[:, channel].reshape(len(pixels), size)]
            start += len(pixels)

    def append(self, value: Any, numbers: list[float], categories: list[int], missing: Missing) -> None:
        """Encode one image: encoded bytes, base64 of them, or pixels. Raises ValueError with the end of a sentence."""
        from aimass.data.images import decode

        pixels = decode(value, self.shape) if isinstance(value, (bytes, str)) else pixels_of(value, self.shape)
        for channel, levels in enumerate(self.levels):
            numbers += levels[pixels[channel].ravel()].tolist()


def is_image(column: Any) -> bool:
    """Whether a column holds images."""
    import pyarrow as pa

    of = column.type
    return (
        isinstance(of, pa.FixedShapeTensorType)
        and of.value_type == pa.uint8()
        and len(of.shape) == 3
        and of.permutation in (None, [0, 1, 2])
    )


def image_array(pixels: NDArray[np.uint8]) -> Any:
    """An Arrow column of images. uint8 (rows, channels, height, width), each at least 1 but for the rows."""
    import numpy as np
    import pyarrow as pa

    size = math.prod(pixels.shape[1:])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(pixels).reshape(-1)), size)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), list(pixels.shape[1:])), storage)


def many_images(values: NDArray[Any]) -> Any:
    """An Arrow column of images in an array, uint8 (rows, height, width) or (rows, height, width, channels).

    Raises:
        DataError: it has another shape.
    """
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise DataError(f"images have the shape (rows, height, width) or (rows, height, width, channels), not {values.shape}")
    return image_array(values[:, None] if values.ndim == 3 else values.transpose(0, 3, 1, 2))


def pixels_of(value: Any, shape: Shape) -> NDArray[np.uint8]:
    """One image out of lists or an array: (height, width) of one channel, (height, width, channels), or all in a row, channel by channel.

    Raises:
        ValueError: it is no such image; the message ends a sentence about it.

    >>> pixels_of([[0, 255]], (1, 1, 2)).shape
    (1, 1, 2)
    """
    import numpy as np

    channels, height, width = shape
    try:
        found = np.asarray(value)
    except ValueError:
        found = np.empty(0)
    orders = {(height, width, channels): (2, 0, 1), (channels * height * width,): None}
    if channels == 1:
        orders[height, width] = None
    if found.dtype.kind not in "biuf" or found.shape not in orders:
        raise ValueError(f"is no image of {shown(shape)}")
    if not ((found >= 0) & (found <= 255) & (found == np.floor(found))).all():
        raise ValueError("has pixels that are no whole numbers from 0 to 255")
    order = orders[found.shape]
    return (found.reshape(shape) if order is None else found.transpose(order)).astype(np.uint8)


def shown(shape: Any) -> str:
    """A shape in words.

    >>> shown((3, 28, 32))
    '28 × 32 pixels in 3 channels'
    """
    channels, height, width = shape
    return f"{height} × {width} pixels in {channels} channel{'s' * (channels != 1)}"


def raw_pixels(column: Any) -> NDArray[np.uint8]:
    """The pixels of a typed column. uint8 (rows, channels, height, width)."""
    import numpy as np

    parts = [chunk.storage.flatten().to_numpy().reshape(-1, *column.type.shape) for chunk in column.chunks]
    return np.concatenate(parts) if len(parts) != 1 else parts[0]


def _blocks(column: Any) -> Iterator[NDArray[np.uint8]]:
    for chunk in column.chunks:
        pixels = chunk.storage.flatten().to_numpy().reshape(-1, *column.type.shape)
        for start in range(0, len(pixels), _ROWS_AT_ONCE):
            yield pixels[start : start + _ROWS_AT_ONCE]
