import json

import numpy as np
import pytest

from aimass.core.errors import DataError, NotFound, UsageError
from aimass.data import Encoder, describe, load, read_rows
from aimass.data.text import prompt_of, with_context

WORDS = "".join(f"line {number} of the text\n" for number in range(300))
BYTES = WORDS.encode()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(WORDS)
    return path


def test_windows_tell_the_next_byte(file):
    data = load(file)
    assert (data.task, data.target, data.encoder.features, data.encoder.context) == ("language", "text", ("text",), 128)
    assert (data.encoder.num_numbers, data.encoder.cardinalities) == (0, (256,) * 128)
    encoded = data.train.encoded
    assert encoded.categories.dtype == encoded.targets.dtype == np.uint8
    assert encoded.categories[1].tobytes() == BYTES[128:256]
    assert encoded.targets[1].tobytes() == BYTES[129:257]
    assert encoded.numbers.shape == (len(data.train), 0)


def test_the_parts_follow_one_another_and_do_not_overlap(file):
    data = load(file, split=(0.5, 0.25, 0.25))
    cut, last = round(0.5 * (len(BYTES) + 1)), round(0.5 * (len(BYTES) + 1)) + round(0.25 * (len(BYTES) + 1))
    assert (data.train.text, data.validation.text, data.test.text) == (BYTES[:cut], BYTES[cut:last], BYTES[last:] + b"\0")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [(len(part) - 1) // 128 for part in _texts(data)]
    assert load(file, split=(0.8, 0.2, 0)).test.text == b""


def _texts(data):
    return [part.text for part in (data.train, data.validation, data.test)]


def test_windows_of_another_length_are_of_the_same_text(file):
    data = load(file)
    short = with_context(data, 16)
    assert short.encoder.context == 16
    assert _texts(short) == _texts(data)
    assert short.train.encoded.categories[3].tobytes() == BYTES[48:64]
    assert (short.fingerprint, short.origin) == (data.fingerprint, data.origin)
    assert with_context(data, 128) is data
    with pytest.raises(DataError, match=r"bytes to train on, and a window takes 100,001; give more text, or a smaller model.context"):
        with_context(data, 100_000)


def test_a_folder_is_one_document_a_file(tmp_path, file):
    (tmp_path / "another.md").write_text("# Title\n")
    (tmp_path / ".hidden").write_text("x")
    assert b"".join(_texts(load(tmp_path))) == b"# Title\n\0" + BYTES + b"\0"
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(DataError):
        load(tmp_path)
    with pytest.raises(DataError, match=r"is no folder of text; give one that holds files ending in \.md, \.rst, \.text, \.txt alone"):
        load(tmp_path, task="language")


def test_rows_of_a_table_are_documents():
    data = load({"text": ["ab" * 100, None, "cd" * 100], "stars": [1, 2, 3]}, task="language")
    assert b"".join(_texts(data)) == b"ab" * 100 + b"\0" + b"cd" * 100 + b"\0"
    assert data.origin is None
    with pytest.raises(DataError, match="has no column 'text' to learn language from; there are: review"):
        load({"review": ["a", "b"]}, task="language")
    with pytest.raises(DataError, match="holds '1', which is no text"):
        load({"text": [1, 2]}, task="language")


def test_a_text_file_with_a_target_is_a_table(tmp_path):
    (tmp_path / "table.txt").write_text("a\tb\n" + "1\t0\n2\t1\n" * 10)
    assert load(tmp_path / "table.txt", target="b").task == "binary"


def test_it_is_described_and_comes_again_from_its_origin(file):
    data = load(file)
    found = json.loads(json.dumps(describe(file)))
    assert found["columns"]["text"]["notes"] == [f"windows of 128 bytes, of {len(BYTES) + 1:,} in all"]
    assert load(**data.origin).fingerprint == data.fingerprint
    assert Encoder.from_json(json.loads(json.dumps(data.encoder.to_json()))) == data.encoder
    assert read_rows(file, data.encoder, need_target=True).encoded.categories[0].tobytes() == BYTES[:128]
    file.write_text(WORDS + "!")
    assert load(**data.origin).fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; it needs text to learn from"),
        (b"\xff\xfea\0b\0", "is UTF-16 text; save it in UTF-8"),
        (b"abc\0def", "is not text: it holds a zero byte"),
    ],
)
def test_what_is_no_text_is_refused_with_a_sentence(file, content, message):
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(file)


def test_a_short_text_waits_for_a_model_that_sees_less(file):
    file.write_bytes(b"short")
    data = load(file)
    assert _texts(with_context(data, 2)) == _texts(data)
    with pytest.raises(DataError, match=r"has 5 bytes to train on, and a window takes 129; give more text, or a smaller model.context"):
        with_context(data, 128)
    with pytest.raises(DataError, match=r"has 1 byte to train on, and a window takes 2; give more text$"):
        load(file, split=(0.2, 0.4, 0.4))


def test_what_says_something_of_columns_is_refused(file):
    with pytest.raises(UsageError, match="weight says something of columns, and text has none"):
        load(file, weight="w")
    with pytest.raises(NotFound):
        load("no_such_file.txt", task="language")


def test_a_row_is_its_last_bytes(file):
    encoder = with_context(load(file), 4).encoder
    assert encoder.encode_row({"text": "abcdéf"}) == ([], [*b"d", *"é".encode(), *b"f"])
    with pytest.raises(DataError, match="column 'text' holds 3, which is no text; give a text"):
        encoder.encode_row({"text": 3})


def test_half_a_character_is_refused(file):
    encoder = with_context(load(file), 4).encoder
    with pytest.raises(DataError, match=r"column 'text' holds .*which has half a character, which UTF-8 cannot write"):
        encoder.encode_row({"text": "a\ud800"})
    with pytest.raises(DataError, match=r"'a\\ud800' has half a character, which UTF-8 cannot write; take it out"):
        prompt_of({"text": "a\ud800"})
    assert prompt_of({"text": "\udcff"}) == "\udcff"  # a byte that is no UTF-8, as from the command line
