import base64
import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import squares, write_classes
from PIL import Image

from aimass.core.errors import DataError, StorageError, UsageError
from aimass.data import Encoder, images, load, read_rows
from aimass.data.pixels import ImageColumn, image_array, raw_pixels

PIXELS, LABELS = squares(24)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width, height):
    """A few hundred bytes that say that they are a very large image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".bmp"])
def test_a_folder_for_each_class(tmp_path, suffix):
    folder = write_classes(tmp_path / "photos", PIXELS, LABELS, suffix)
    (folder / "side_0" / "notes.md").write_text("not an image")
    (folder / ".cache").mkdir()
    data = load(folder)
    assert (data.target, data.task, data.encoder.classes, data.encoder.image) == ("label", "binary", ("side_0", "side_1"), (1, 6, 6))
    assert np.array_equal(raw_pixels(data.table["image"])[:, 0], np.concatenate([PIXELS[::2], PIXELS[1::2]]))
    assert data.describe()["columns"]["image"]["notes"] == ["6 × 6 pixels in 1 channel"]
    assert load(**{**data.origin}).fingerprint == data.fingerprint


def test_train_and_test_folders(tmp_path):
    write_classes(tmp_path / "train", PIXELS[:20], LABELS[:20])
    write_classes(tmp_path / "test", PIXELS[20:], LABELS[20:])
    data = load(tmp_path)
    assert (len(data.train), len(data.validation), data.test.ids.tolist()) == (18, 2, [20, 21, 22, 23])


def test_colours_and_sizes(tmp_path):
    folder = write_classes(tmp_path, PIXELS, LABELS)
    Image.fromarray(np.stack([PIXELS[0]] * 3, axis=2)).resize((9, 7)).save(folder / "side_1" / "odd.jpg")
    with pytest.raises(DataError, match=r"000.png has 6 × 6 pixels and .*odd.jpg 7 × 9; give image_size=\(6, 6\)"):
        load(folder)
    data = load(folder, image_size="4x5")
    assert data.encoder.image == (3, 4, 5)
    assert load(**{**data.origin}).fingerprint == data.fingerprint
    again = Encoder.from_json(data.encoder.to_json())
    assert again == data.encoder
    one = read_rows(folder / "side_1" / "odd.jpg", again, need_target=False)
    assert one.encoded.numbers.shape == (1, 60)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 4, 3), (3, 2, 5), (2, 3, 3)]))
def test_a_row_and_a_column_agree_to_the_bit(seed, shape):
    pixels = np.random.default_rng(seed).integers(0, 256, (5, *shape)).astype(np.uint8)
    column = ImageColumn.fit("image", _chunked(image_array(pixels)))
    together = np.empty((5, column.width), np.float32)
    column.write(_chunked(image_array(pixels)), together)
    for row, image in zip(together, pixels, strict=True):
        for given_so in (image.ravel(), image.transpose(1, 2, 0).tolist(), image.ravel().astype(float).tolist()):
            numbers = []
            column.append(given_so, numbers, [], None)
            assert np.array_equal(np.float32(numbers), row)
    exact = pixels.astype(np.float64)
    np.testing.assert_allclose(column.means, exact.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(column.stds, exact.std(axis=(0, 2, 3)))


def _chunked(array):
    import pyarrow as pa

    return pa.chunked_array([array.slice(0, 2), array.slice(2)])


def test_arrays_in_memory_are_images():
    data = load({"image": PIXELS, "label": LABELS}, "label")
    assert (data.encoder.image, data.origin) == ((1, 6, 6), None)
    colour = load({"image": np.stack([PIXELS] * 3, axis=3), "label": LABELS}, "label")
    assert colour.encoder.image == (3, 6, 6)
    both = load({"image": PIXELS, "age": np.arange(24.0), "label": LABELS}, "label")
    assert (both.encoder.image, both.encoder.num_numbers) == (None, 37)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2], "is no image of 6 × 6 pixels in 1 channel; give its pixels"),
        (None, "is no image of 6 × 6"),
        ((PIXELS[0] + 0.5).tolist(), "has pixels that are no whole numbers from 0 to 255"),
        ([[300] * 6] * 6, "no whole numbers from 0 to 255"),
        ("hello!", "is no base64 of an image file"),
        (base64.b64encode(b"age,churn").decode(), "is no image that can be read"),
        (base64.b64encode(bomb(50_000, 50_000)).decode(), "pixels"),
        (base64.b64encode(png(PIXELS[0])[:60]).decode(), "cannot be read|is damaged"),
        (png(np.zeros((4, 4), np.uint16)), "more than 8 bits a channel"),
    ],
)
def test_a_row_that_is_no_image_is_refused_with_a_sentence(given, message):
    encoder = load({"image": PIXELS, "label": LABELS}, "label").encoder
    with pytest.raises(DataError, match=message):
        encoder.encode_row({"image": given})


def test_an_encoded_image_is_its_pixels():
    encoder = load({"image": PIXELS, "label": LABELS}, "label").encoder
    text = base64.b64encode(png(PIXELS[3])).decode()
    rows = [encoder.encode_row({"image": each}) for each in (PIXELS[3], png(PIXELS[3]), text, f"data:image/png;base64,{text}")]
    assert all(row == rows[0] for row in rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"", "is no image that can be read"),
        ("a.png", b"age,churn\n1,2\n", "is no image that can be read"),
        ("a.png", png(PIXELS[0])[:60], "cannot be read|is damaged"),
        ("a.png", bomb(50_000, 50_000), "has (more than|50000 × 50000)"),
        ("a.png", bomb(9_000, 9_000), "has 9000 × 9000 pixels, and 67,108,864 are the most"),
        ("a.png", png(np.zeros((6, 6), np.uint16)), "has more than 8 bits a channel"),
    ],
)
def test_a_file_that_is_off_is_refused_with_a_sentence(tmp_path, name, content, message):
    folder = write_classes(tmp_path, PIXELS, LABELS)
    (folder / "side_0" / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"side_0/{name} .*(?:{message})"):
        load(folder)


def test_what_is_called_as_an_image_and_is_no_file_is_refused_unopened(tmp_path):
    folder = write_classes(tmp_path, PIXELS, LABELS)
    os.mkfifo(folder / "side_0" / "pipe.png")
    with pytest.raises(DataError, match=r"side_0/pipe\.png is no file, though it is called as one; take it out"):
        load(folder)


def test_a_class_whose_name_is_not_in_utf_8_is_refused(tmp_path):
    folder = write_classes(tmp_path, PIXELS, LABELS)
    (folder / "side_1").rename(folder / os.fsdecode(b"\xff"))
    with pytest.raises(DataError, match=r"has a folder called '\\udcff', whose name is not in UTF-8"):
        load(folder)


def test_images_that_do_not_fit_into_memory(tmp_path, monkeypatch):
    folder = write_classes(tmp_path, PIXELS, LABELS)
    monkeypatch.setattr(images, "has_room", lambda size_bytes: size_bytes < 24 * 36)
    with pytest.raises(StorageError, match="24 images of 6 × 6 pixels in 1 channel take"):
        load(folder)


@pytest.mark.parametrize("wrong", [0, "wide", (3,), (3, 4, 5), 5000, "5000x2", 2.5])
def test_sizes_that_are_none(wrong):
    with pytest.raises(UsageError, match=r"image_size=.*: give height and width"):
        load("iris", image_size=wrong)


def test_what_cannot_be_used(tmp_path):
    with pytest.raises(UsageError, match="image_size resizes image files, and iris has none"):
        load("iris", image_size=8)
    with pytest.raises(DataError, match="holds string values and no images"):
        load({"a": ["x", "y"] * 5, "b": [0, 1] * 5}, "b", schema={"a": "image"})
    with pytest.raises(DataError, match="the target 'image' holds images, which cannot be predicted"):
        load({"image": PIXELS, "label": LABELS}, "image")
    with pytest.raises(DataError, match=r"images have the shape \(rows, height, width\)"):
        load({"image": np.zeros((2, 2, 2, 2, 2), np.uint8), "label": [0, 1]}, "label")
    with pytest.raises(DataError, match="is an empty folder; give one with the files of MNIST"):
        load(tmp_path)
    folder = write_classes(tmp_path, PIXELS, LABELS)
    (folder / "loose.png").write_bytes(png(PIXELS[0]))
    with pytest.raises(DataError, match=r"holds images beside folders of images, such as loose.png"):
        load(folder)
