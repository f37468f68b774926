"""A folder as a source: the files of MNIST, or images in one folder for each class."""

from __future__ import annotations

from pathlib import Path

from aimass.core.errors import DataError
from aimass.data.formats.idx import PLUGIN as IDX
from aimass.data.formats.idx import find_images
from aimass.data.images import IMAGE, LABEL, Files, Wanted, find_classes, images_in, read_images
from aimass.data.source import Raw

TRAIN, TEST = "train", "test"


def read_folder(folder: Path, wanted: Wanted) -> Raw:
    """The rows of a folder. Where its only folders of images are `train` and `test`, the latter is the test split.

    Args:
        folder: one that exists.
        wanted: what its images shall be.

    Raises:
        DataError: it holds nothing that is understood, or a file in it is damaged.
    """
    try:
        images = find_images(folder)
        if images is not None:
            return IDX().read(images)
        parts = [folder / TRAIN, folder / TEST] if (folder / TRAIN).is_dir() and (folder / TEST).is_dir() else [folder]
        by_part = [find_classes(part) for part in parts]
        loose = images_in(folder)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror or error}); check its permissions") from None
    found = [each for part in by_part for each in part]
    if found and loose:
        raise DataError(f"{folder} holds images beside folders of images, such as {loose[0].name}; put each into the folder of its class")
    if is_empty:
        raise DataError(
            f"{folder} is an empty folder; give one with the files of MNIST, with one folder of images for each class, or with text"
        )
    if not found and not loose:
        raise DataError(
            f"{folder} is a folder; name one file in it, or give one with the files of MNIST, or with one folder of images for each class"
        )
    odd = next((label for _, label in found if label.encode(errors="replace").decode() != label), None)
    if odd is not None:
        raise DataError(f"{folder} has a folder called {odd!a}, whose name is not in UTF-8, so no class can be called so; rename it")
    import pyarrow as pa

    paths = [path for path, _ in found] or loose
    columns = {IMAGE: read_images(paths, wanted)}
    if found:
        columns[LABEL] = pa.array([label for _, label in found]).dictionary_encode()
    return Raw(
        name=str(folder),
        table=pa.table(columns),
        places=Files(paths=paths),
        target=LABEL if found else None,
        num_test=len(by_part[1]) if len(by_part) == 2 else 0,
    )
