import csv
import io
import json
from pathlib import Path

import pytest

import aimass as library
from aimass.cli.predict import parse_rows
from aimass.core.errors import DataError

ROWS = [{"hours": 1.0, "coffee": "yes"}, {"hours": 9.0, "coffee": "no"}]


@pytest.fixture
def model(home):
    """A model of when a test is passed, saved as `passed`."""
    data = {"hours": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] * 5, "coffee": [True, False] * 25, "passed": [0, 0, 0, 0, 1, 0, 1, 1, 1, 1] * 5}
    return library.train(data, "passed", model="linear", lr=0.1, epochs=20).wait().model


@pytest.fixture
def saved(model):
    return model.save("passed")


def test_a_file_is_answered_line_by_line(aimass, saved, model):
    Path("rows.csv").write_text("hours,coffee\n1,yes\n9,no\n")
    answers = list(csv.DictReader(io.StringIO(aimass("predict", saved, "rows.csv").out)))
    expected = model.predict(ROWS)
    assert [int(answer["prediction"]) for answer in answers] == [answer["prediction"] for answer in expected]
    assert [float(answer["probability"]) for answer in answers] == [answer["probability"] for answer in expected]


@pytest.mark.parametrize("text", [json.dumps(ROWS), "\n".join(map(json.dumps, ROWS))])
def test_rows_can_be_json(aimass, saved, model, text, monkeypatch):
    expected = json.loads(json.dumps(model.predict(ROWS)))
    Path("rows.json").write_text(text)
    assert json.loads(aimass("predict", saved, "rows.json", "--json").out)["predictions"] == expected
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert json.loads(aimass("predict", saved, "-", "--json").out)["predictions"] == expected


def test_answers_can_go_to_a_file(aimass, saved, model):
    Path("rows.json").write_text(json.dumps(ROWS))
    assert aimass("predict", saved, "rows.json", "--out", "answers.csv").out == "2 predictions are in answers.csv\n"
    assert Path("answers.csv").read_text() == aimass("predict", saved, "rows.json").out
    assert json.loads(aimass("predict", saved, "rows.json", "--out", "answers.json", "--json").out) == {"rows": 2, "out": "answers.json"}
    assert json.loads(Path("answers.json").read_text()) == json.loads(json.dumps({"predictions": model.predict(ROWS)}))


def test_a_run_answers_like_its_model(aimass, saved):
    from aimass.training.run import Run

    Path("rows.json").write_text(json.dumps(ROWS))
    (run,) = Run.list()
    assert aimass("predict", run.id, "rows.json").out == aimass("predict", saved, "rows.json").out


def test_regression_has_no_probabilities(aimass):
    run = library.train("diabetes", epochs=1).wait()
    lines = aimass("predict", run.id, "diabetes").out.splitlines()
    assert lines[0] == "prediction"
    assert len(lines) == 443


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "rows.json holds no JSON rows"),
        ("[1]", r"rows.json holds no JSON rows \(its row 1 is no object\)"),
        ("[]", "there are none"),
        ("", "rows.json holds no JSON rows"),
    ],
)
def test_what_is_no_json_says_how_rows_are_written(text, message):
    with pytest.raises(DataError, match=message):
        parse_rows(text, "rows.json")


def test_standard_input_takes_no_csv(aimass, saved, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a,b\n1,2\n"))
    outcome = aimass("predict", saved, "-")
    assert outcome.status == 4
    assert "or give a CSV as a file: only JSON is read from standard input" in outcome.err


def test_standard_input_that_is_no_text_is_no_fault(aimass, saved, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"))
    outcome = aimass("predict", saved, "-")
    assert outcome.status == 4
    assert outcome.err.startswith("error: standard input cannot be read ('utf-8' codec can't decode byte 0xff")


def test_files_that_cannot_be_read(aimass, saved):
    Path("folder.json").mkdir()
    outcome = aimass("predict", saved, "folder.json")
    assert (outcome.status, outcome.err.count("\n")) == (4, 1)
    outcome = aimass("predict", saved, "absent.json")
    assert (outcome.status, outcome.err) == (5, "error: there is no file 'absent.json'; check the path\n")


def test_evaluate(aimass, saved, model):
    Path("known.csv").write_text("hours,coffee,passed\n1,yes,0\n9,no,1\n2,no,0\n")
    expected = model.evaluate("known.csv")
    assert json.loads(aimass("evaluate", saved, "known.csv", "--json").out) == {"metrics": expected}
    assert f"accuracy    {expected['accuracy']:.4g}\n" in aimass("evaluate", saved, "known.csv").out
