import json
import pickle

import numpy as np
import pyarrow as pa
import pytest

from aimass.data import load

COLUMNS = {
    "x": [float(number) for number in range(40)],
    "plan": ["gold", "free"] * 20,
    "member": [True, False, None, True] * 10,
    "note": [f"text {number}" for number in range(40)],
    "y": [0, 1] * 20,
}


def fingerprint(columns=COLUMNS, **options):
    return load(columns, "y", **options).fingerprint


def changed(name, row, value):
    return COLUMNS | {name: [value if number == row else old for number, old in enumerate(COLUMNS[name])]}


def test_the_fingerprint_is_that_of_the_content():
    same = fingerprint()
    assert len(same) == 64
    assert int(same, 16)
    assert fingerprint(dict(COLUMNS)) == same
    table = pa.table(COLUMNS)
    assert fingerprint(pa.concat_tables([table.slice(0, 7), table.slice(7)])) == same


def test_the_fingerprint_does_not_depend_on_the_file_that_holds_the_rows(tmp_path):
    texts = {name: ["" if value is None else str(value) for value in values] for name, values in COLUMNS.items()}
    for name, separator in (("one.csv", ","), ("two.csv", ";")):
        lines = [separator.join(texts), *(separator.join(row) for row in zip(*texts.values(), strict=True))]
        (tmp_path / name).write_text("\n".join(lines))
    assert load(tmp_path / "one.csv", "y").fingerprint == load(tmp_path / "two.csv", "y").fingerprint == fingerprint()


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        (changed("x", 3, 3.5), {}),
        (changed("x", 3, None), {}),
        (changed("plan", 3, "gold"), {}),
        (changed("plan", 3, None), {}),
        (changed("member", 3, False), {}),
        (changed("y", 3, 0), {}),
        (COLUMNS, {"seed": 1}),
        (COLUMNS, {"split": (0.5, 0.25, 0.25)}),
        (COLUMNS, {"stratify": False}),
        (COLUMNS, {"schema": {"member": "categorical"}}),
        (COLUMNS, {"task": "regression"}),
        (COLUMNS, {"weight": "x"}),
        ({"z" if name == "x" else name: values for name, values in COLUMNS.items()}, {}),
    ],
)
def test_whatever_training_sees_changes_the_fingerprint(columns, options):
    assert fingerprint(columns, **options) != fingerprint()


def test_ignored_columns_do_not():
    assert fingerprint(changed("note", 3, "other")) == fingerprint()


def test_rows_keep_their_ids_and_values():
    data = load(COLUMNS, "y")
    assert data.train.table.column_names == ["x", "plan", "member", "y"]
    assert data.table["note"].to_pylist() == COLUMNS["note"]
    for rows in (data.train, data.validation, data.test):
        assert rows.table["x"].to_pylist() == rows.ids.tolist()
        assert rows.ids.dtype == np.int64
        assert rows.encoded.rows is rows.ids
        assert len(rows) == len(rows.encoded) == rows.table.num_rows


def test_a_data_set_travels_to_another_process():
    data = load(COLUMNS, "y")
    again = pickle.loads(pickle.dumps(data))
    assert again.fingerprint == data.fingerprint
    assert again.encoder == data.encoder
    assert np.array_equal(again.test.encoded.numbers, data.test.encoded.numbers)


def test_a_data_set_from_a_file_or_a_sample_says_how_to_load_it_again(tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text("x,y\n" + "".join(f"{number},{number % 3}\n" for number in range(40)) + "?,1\n")
    monkeypatch.chdir(tmp_path)
    data = load("rows.csv", "y", schema={"y": "categorical"}, split=(0.6, 0.2, 0.2), seed=4, missing=["?"])
    monkeypatch.chdir("/")
    again = json.loads(json.dumps(data.origin))
    assert again["source"] == str(tmp_path / "rows.csv")
    assert load(**again).fingerprint == data.fingerprint
    sample = load("wine", stratify=False, seed=3)
    assert load(**sample.origin).fingerprint == sample.fingerprint
    assert load(COLUMNS, "y").origin is None


def test_shown_to_a_person():
    data = load(COLUMNS, "y")
    assert repr(data) == "Dataset(the table: 32 + 4 + 4 rows, 3 inputs, binary target 'y')"
    assert repr(data.test) == "Rows(4 rows, 3 inputs)"


def test_a_row_of_a_split_is_placed_in_its_source(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("x,y\n" + "".join(f"{number},{number % 2}\n" for number in range(40)))
    data = load(path, "y")
    assert [data.test.places.of(row) for row in range(4)] == [f"line {row + 2} of {path}" for row in data.test.ids]
