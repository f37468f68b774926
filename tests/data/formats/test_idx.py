import gzip
import os

import numpy as np
import pytest
from pictures import idx_bytes, squares, write_mnist

from aimass.core.errors import DataError, StorageError
from aimass.data import load
from aimass.data.formats import idx
from aimass.data.pixels import raw_pixels

PIXELS, LABELS = squares(30)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_images_come_with_their_labels_and_t10k_is_the_test_split(tmp_path, suffix):
    folder = write_mnist(tmp_path / "mnist", "train", PIXELS[:20], LABELS[:20], suffix)
    write_mnist(folder, "t10k", PIXELS[20:], LABELS[20:])
    for source in (folder, folder / f"train-images-idx3-ubyte{suffix}"):
        data = load(source)
        assert (data.target, data.task, data.encoder.classes, data.encoder.image) == ("label", "binary", (0, 1), (1, 6, 6))
        assert (len(data.train), len(data.validation), data.test.ids.tolist()) == (18, 2, list(range(20, 30)))
        assert np.array_equal(raw_pixels(data.table["image"])[:, 0], PIXELS)
    assert load(folder / "t10k-images-idx3-ubyte").table.num_rows == 10


def test_numbers_are_the_pixels_standardised(tmp_path):
    data = load(write_mnist(tmp_path / "mnist", "train", PIXELS, LABELS))
    seen = PIXELS[data.train.ids].astype(np.float64)
    np.testing.assert_allclose(data.train.encoded.numbers, ((seen - seen.mean()) / seen.std()).reshape(-1, 36), rtol=1e-6)
    assert data.train.encoded.targets.tolist() == LABELS[data.train.ids].tolist()
    assert load(write_mnist(tmp_path / "again", "train", PIXELS, LABELS)).fingerprint == data.fingerprint
    changed = PIXELS.copy()
    changed[-1, -1, -1] += 1
    assert load(write_mnist(tmp_path / "changed", "train", changed, LABELS)).fingerprint != data.fingerprint


def test_more_than_twenty_numbers_of_classes_stay_classes(tmp_path):
    data = load(write_mnist(tmp_path / "letters", "train", np.repeat(PIXELS, 2, axis=0), np.arange(60) % 26))
    assert (data.task, data.encoder.classes) == ("multiclass", tuple(range(26)))


GOOD = idx_bytes(PIXELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"age,churn\n1,2\n", "is no IDX file: it begins with 61 67 65 2c, not with 00 00"),
        (b"\0\0", "is no IDX file: it begins with 00 00, not"),
        (b"\0\0\x0d" + GOOD[3:], "holds values of the type 0x0d; only unsigned bytes, 0x08, are read"),
        (idx_bytes(LABELS), "holds labels and should hold images; name the file of images"),
        (GOOD[:10], "is damaged: its header ends early"),
        (idx_bytes(PIXELS[:0]), "is damaged: its header ends early, or says that there is nothing"),
        (GOOD[:8] + b"\x7f\xff\xff\xff" + GOOD[12:], "holds images of 2147483647 × 6 pixels by its header, and 67,108,864 are the most"),
        (GOOD[:-1], "its header says 1,080 values and it holds 1,079"),
        (GOOD + b"x", "its header says 1,080 values and it holds more"),
        (gzip.compress(GOOD)[:-40], "cannot be unpacked to its end"),
        (gzip.compress(GOOD)[:-8] + bytes(8), "cannot be unpacked to its end"),
        (gzip.compress(GOOD[:16] + bytes(50_000_000)), "its header says 1,080 values and it holds more"),
    ],
)
def test_a_file_that_is_off_is_refused_with_a_sentence(tmp_path, content, message):
    write_mnist(tmp_path, "train", PIXELS, LABELS)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(path)


def test_what_is_no_file_is_refused_unopened(tmp_path):
    folder = write_mnist(tmp_path / "mnist", "train", PIXELS, LABELS)
    (folder / "train-images-idx3-ubyte").unlink()
    os.mkfifo(folder / "train-images-idx3-ubyte")
    with pytest.raises(DataError, match="train-images-idx3-ubyte is no file, though it is called as one"):
        load(folder)


def test_a_header_that_promises_more_than_memory_has(tmp_path, monkeypatch):
    folder = write_mnist(tmp_path, "train", PIXELS, LABELS)
    monkeypatch.setattr(idx, "has_room", lambda size_bytes: size_bytes < 2000)
    with pytest.raises(StorageError, match="by its header"):
        load(folder)


def test_labels_have_to_be_there_and_to_be_as_many(tmp_path):
    folder = write_mnist(tmp_path, "train", PIXELS, LABELS[:-1])
    with pytest.raises(DataError, match=r"has 30 images and .* 29 labels"):
        load(folder)
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"there is no train-labels-idx1-ubyte beside .*, with or without .gz"):
        load(folder)
    (folder / "x.idx3-ubyte").write_bytes(GOOD)
    with pytest.raises(DataError, match="cannot be found by its name"):
        load(folder / "x.idx3-ubyte")


def test_test_images_of_another_size(tmp_path):
    folder = write_mnist(tmp_path, "train", PIXELS, LABELS)
    write_mnist(folder, "t10k", *squares(4, side=5))
    with pytest.raises(DataError, match=r"are 5 × 5 pixels and those of .* 6 × 6"):
        load(folder)
