import errno
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aimass.core.errors import DataError, NotFound, StorageError, UsageError
from aimass.data import source
from aimass.data.source import Raw, open_source


class Frame:
    """What a data frame of another library offers: the Arrow stream."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


TABLE = pa.table({"a": [1, 2], "b": ["x", None]})


@pytest.mark.parametrize(
    "given",
    [
        TABLE,
        {"a": [1, 2], "b": ["x", None]},
        {"a": np.array([1, 2]), "b": pa.array(["x", None])},
        [{"a": 1, "b": "x"}, {"a": 2}],
        Frame(TABLE),
        Raw(name="r", table=TABLE),
    ],
)
def test_every_kind_of_table(given):
    assert open_source(given).table.to_pydict() == TABLE.to_pydict()


def pandas_like(columns):
    """A stand-in with pandas' name, whose frames Arrow cannot convert in one go."""

    class Series(list):
        def tolist(self):
            return list(self)

    class DataFrame(dict):
        columns = property(lambda self: list(self))

    DataFrame.__module__ = "pandas.core.frame"
    return DataFrame({name: Series(values) for name, values in columns.items()})


def test_mixed_columns_become_text_so_that_the_odd_value_can_be_named():
    assert open_source({"a": [1, "x", 2.0, None]}).table["a"].to_pylist() == ["1", "x", "2", None]


def test_nan_in_arrays_is_missing():
    assert open_source({"a": np.array([1.0, np.nan])}).table["a"].to_pylist() == [1.0, None]


def test_a_path_and_a_string_are_the_same(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a\n1\n")
    assert open_source(path).table.equals(open_source(str(path)).table)
    assert open_source(path).name == str(path)


def test_a_file_wins_over_a_sample(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_source("iris").target == "target"
    (tmp_path / "iris").mkdir()
    assert open_source("iris").target == "target"
    (tmp_path / "iris").rmdir()
    (tmp_path / "iris").write_text("a\n1\n")
    assert open_source("iris").table.column_names == ["a"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no/such.csv", r"there is no file 'no/such.csv'; give the path of a CSV file, or one of the samples: breast_cancer"),
        ("digit", r"did you mean the sample 'digits'\? Samples: breast_cancer, diabetes, digits, iris, python_docs, wine"),
        ("a\0b", "there is no file"),
    ],
)
def test_names_that_are_neither(given, message):
    with pytest.raises(NotFound, match=message):
        open_source(given)


def test_a_name_too_long_for_a_file():
    with pytest.raises(DataError, match="check the path"):
        open_source("x" * 5000)


def test_a_folder(tmp_path):
    with pytest.raises(DataError, match="is an empty folder; give one with"):
        open_source(tmp_path)
    (tmp_path / "notes.bin").write_bytes(b"1")
    with pytest.raises(DataError, match="is a folder; name one file in it"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "may not be read; check its permissions"),
        (OSError(errno.EIO, "I/O error"), "I/O error"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, monkeypatch, error, message):
    path = tmp_path / "rows.csv"
    path.write_text("a\n1\n")

    def refuse(self):
        raise error

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=message):
        open_source(path)


def test_a_file_larger_than_memory(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text("a\n1\n")
    monkeypatch.setattr(source, "free_memory_bytes", lambda: 3)
    with pytest.raises(StorageError, match="GB of memory are free; use fewer rows"):
        open_source(path)


@pytest.mark.parametrize("given", [None, 3, b"a,b", np.zeros((2, 2)), [1, 2]])
def test_what_is_no_table(given):
    with pytest.raises(UsageError, match=r"data cannot be a \w+; give a path"):
        open_source(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "the table is empty"),
        ([], "the table is empty"),
        ({"a": []}, "has columns and no rows; add rows to it"),
        ({"a": [1, 2], "b": [1]}, "column 'b' has 1 values and column 'a' has 2"),
        ({"a": 5}, "column 'a' is a single int; give a list"),
        ({"a": "xyz"}, "column 'a' is a single str"),
        ({"a": np.zeros((2, 2))}, "column 'a' has 2 dimensions"),
        ({"a": [1, "x", [2]]}, "column 'a' holds something that is neither text nor a number"),
        ({"a": [1], " ": [2]}, "column 2 of the table has no name"),
        (pa.table([[1], [2], [3]], names=["a", "b", "a"]), "the table has 2 columns named 'a'"),
    ],
)
def test_tables_that_cannot_be_used(given, message):
    with pytest.raises(DataError, match=message):
        open_source(given)


def test_a_data_frame_with_mixed_columns_is_read_column_by_column(monkeypatch):
    def refuse(*_, **__):
        raise pa.ArrowTypeError("Expected bytes, got a 'int' object")

    monkeypatch.setattr(source, "_from_pandas", refuse)
    assert open_source(pandas_like({"a": [1, "x"], "b": [1.0, 2.0]})).table.to_pydict() == {"a": ["1", "x"], "b": [1.0, 2.0]}


def test_csv_files_with_columns_that_cannot_be_told_apart(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,a\n1,2\n")
    with pytest.raises(DataError, match=r"rows\.csv has 2 columns named 'a'; give each a name of its own"):
        open_source(path)
    path.write_text(",a\n0,2\n")
    with pytest.raises(DataError, match=r"column 1 of .*rows\.csv has no name; .*index=False"):
        open_source(path)
    path.write_text("a,b\n")
    with pytest.raises(DataError, match=r"rows\.csv has columns and no rows"):
        open_source(path)
