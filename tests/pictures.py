"""Small images with classes, as arrays and as the files that hold them."""

import gzip
import struct

import numpy as np
from PIL import Image


def squares(rows, side=6, seed=0):
    """Bright squares on the left (class 0) or on the right (class 1). uint8 (rows, side, side) and (rows,)."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (rows, side, side)).astype(np.uint8)
    labels = (np.arange(rows) % 2).astype(np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[:, side // 2 :] += np.uint8(150 * label)
        image[:, : side // 2] += np.uint8(150 * (1 - label))
    return pixels, labels


def idx_bytes(values, type_code=8):
    """An array in the format of MNIST."""
    return bytes([0, 0, type_code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.astype(np.uint8).tobytes()


def write_mnist(folder, name, pixels, labels, suffix=""):
    """The two files of one set."""
    folder.mkdir(exist_ok=True)
    for file, values in ((f"{name}-images-idx3-ubyte{suffix}", pixels), (f"{name}-labels-idx1-ubyte{suffix}", labels)):
        content = idx_bytes(values)
        (folder / file).write_bytes(gzip.compress(content) if suffix == ".gz" else content)
    return folder


def write_classes(folder, pixels, labels, suffix=".png"):
    """One folder for each class."""
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        below = folder / f"side_{label}"
        below.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(below / f"{number:03}{suffix}")
    return folder
