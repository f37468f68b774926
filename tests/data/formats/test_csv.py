import csv

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimass.core.errors import DataError
from aimass.data.formats.csv import CsvFormat


def read(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CsvFormat().read(path)


def refusal(tmp_path, content):
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert "rows.csv" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x y\n2,\n",
        "a,b\r\n1,x y\r\n2,\r\n",
        "a,b\r1,x y\r2,\r",
        "\ufeffa,b\n1,x y\n2,",
        " a , b \n1,x y\n2,\n",
        "\n\na,b\n\n1,x y\n\n2,\n\n",
        "a;b\n1;x y\n2;\n",
        "a\tb\n1\tx y\n2\t\n",
        "a|b\n1|x y\n2|\n",
        '"a","b"\n"1","x y"\n2,""\n',
    ],
)
def test_the_same_rows_however_they_are_written(tmp_path, content):
    assert read(tmp_path, content).table.to_pydict() == {"a": ["1", "2"], "b": ["x y", ""]}


def test_quotes_hold_separators_lines_and_quotes(tmp_path):
    table = read(tmp_path, 'a,"b\nc"\n"1,5","say ""hi""\nagain"\n2,5" pipe\n').table
    assert table.to_pydict() == {"a": ["1,5", "2"], "b\nc": ['say "hi"\nagain', '5" pipe']}


def test_a_separator_inside_quoted_names_does_not_count(tmp_path):
    assert read(tmp_path, '"a;b;c;d",e\n1,2\n').table.column_names == ["a;b;c;d", "e"]


CELL = st.text(alphabet='ab1 ,;"\n\r', max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6))
def test_what_the_standard_library_writes_comes_back_with_the_right_lines(tmp_path, rows):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([("first", "second", "third"), *rows])
    raw = CsvFormat().read(path)
    assert list(zip(*raw.table.to_pydict().values(), strict=True)) == rows
    physical = 2
    for number, row in enumerate(rows):
        assert raw.places.of(number) == f"line {physical} of {path}"
        text = ",".join(row).replace("\r\n", "\n")
        physical += 1 + text.count("\n") + text.count("\r")


def test_a_row_larger_than_a_block_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("aimass.data.formats.csv._BLOCK_BYTES", 64)
    assert read(tmp_path, f'a,b\n1,"{"x" * 500}"\n').table["b"].to_pylist() == ["x" * 500]


def test_fields_longer_than_the_limit_of_the_standard_library(tmp_path):
    limit = csv.field_size_limit()
    assert refusal(tmp_path, f"a,b\n1,{'x' * 200_000}\n2\n").startswith("line 3 of")
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("content", ["a,b\n", "a,b", '"a\nb",c\n'])
def test_a_header_alone_gives_no_rows(tmp_path, content):
    assert read(tmp_path, content).table.num_rows == 0


@pytest.mark.parametrize("content", ["", " \n\t\n", "\ufeff", "\ufeff\n"])
def test_an_empty_file(tmp_path, content):
    assert "is empty; it needs a line of column names" in refusal(tmp_path, content)


def test_ragged_rows_are_named_with_their_counts(tmp_path):
    assert refusal(tmp_path, "a,b,c\n1,2,3\n4,5\n").startswith(f"line 3 of {tmp_path}/rows.csv has 2 values and the header has 3 names;")
    assert "line 5 of" in refusal(tmp_path, 'a,b\n"1\n1",2\n\n1,2,3\n')
    assert "has 1 value and the header has 2 names" in refusal(tmp_path, "a,b\n1\n")


def test_binary_files(tmp_path):
    assert "line 2 holds a zero byte" in refusal(tmp_path, b"a,b\n1,\x00\n")
    assert "is not UTF-8 text: byte 0xe9 in line 3; save it as CSV in UTF-8" in refusal(tmp_path, "a,b\n1,2\n3,é\n".encode("latin-1"))
    assert "byte 0xe9 in line 1" in refusal(tmp_path, "é,b\n1,2\n".encode("latin-1"))
    assert "is UTF-16 text" in refusal(tmp_path, "a,b\n1,2\n".encode("utf-16"))
    assert refusal(tmp_path, bytes(range(256)) * 9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[\n {"a": 1, "b": 2}\n]', "is JSON; save its rows as CSV"),
        ('\ufeff{"a": 1}\n{"a": 2}\n', "is JSON; save its rows as CSV"),
        ("<!DOCTYPE html>\n<p>Log in</p>\n", "is a web page or XML and no table"),
        ('<?xml version="1.0"?>\n<a/>\n', "is a web page or XML and no table"),
    ],
)
def test_text_that_is_no_table(tmp_path, content, message):
    assert message in refusal(tmp_path, content)


def test_names_that_only_begin_like_another_format(tmp_path):
    assert read(tmp_path, "{a},<b>\n1,2\n").table.column_names == ["{a}", "<b>"]


@pytest.mark.parametrize("content", ['a,b\n1,"x\n2,y\n', 'a,b\n1,"x', 'a,b\n1,"x,y\n2,"z"\n', 'a,b\n1,"x\n2,"y\n'])
def test_a_quote_that_is_never_closed(tmp_path, content):
    assert "is not closed at the end of its value; close it, or remove it" in refusal(tmp_path, content)


def test_the_line_of_an_open_quote(tmp_path):
    assert "opens in line 3 of" in refusal(tmp_path, 'a,b\n1,2\n3,"x\n4,y\n')


def test_a_lone_quote_in_the_middle_of_a_value_is_no_fault(tmp_path):
    assert read(tmp_path, 'a,b\n1,5" pipe\n2,y\n').table["b"].to_pylist() == ['5" pipe', "y"]
    assert read(tmp_path, 'a,b\n1,5" by 6" pipe\n2,y\n').table["b"].to_pylist() == ['5" by 6" pipe', "y"]
    assert read(tmp_path, 'a,b\n"x" ,"y" \n').table.to_pydict() == {"a": ["x "], "b": ["y "]}


def test_a_message_of_the_parser_that_nothing_explains_is_still_one_sentence(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise pa.ArrowInvalid("out of luck\nand more")

    monkeypatch.setattr(arrow_csv, "read_csv", fail)
    assert "could not be read as CSV (out of luck); check its quotes and separators" in refusal(tmp_path, "a,b\n1,2\n")


def test_the_place_of_a_row_in_a_file_that_is_gone(tmp_path):
    raw = read(tmp_path, "a,b\n1,2\n")
    (tmp_path / "rows.csv").unlink()
    assert raw.places.of(0).startswith("row 1 of")
