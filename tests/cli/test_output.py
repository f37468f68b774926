import io
import json
import sys

from aimass.cli.output import print_error, print_json, print_table
from aimass.core.errors import Cancelled, DataError


def test_an_error_stays_on_one_line(capsys):
    print_error(DataError("two\n  lines"), as_json=False)
    assert capsys.readouterr().err == "error: two lines\n"


def test_a_stop_that_was_asked_for_is_no_error(capsys):
    print_error(Cancelled("stopped"), as_json=False)
    assert capsys.readouterr().err == "stopped\n"


def test_a_table_lines_up_and_takes_brackets_as_they_are(capsys):
    print_table(("name", "rows"), [("[bold]", 7), ("b", 1000), (None, None)], right=("rows",))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["name    rows", "[bold]     7", "b       1000", ""]


def test_json_has_no_nan_and_only_text_as_keys(capsys):
    print_json({0: [float("nan"), 1.5], "inside": {"most": float("inf"), "names": ("é",)}, True: None})
    assert json.loads(capsys.readouterr().out) == {"0": [None, 1.5], "inside": {"most": None, "names": ["é"]}, "true": None}


def test_json_is_json_in_a_terminal_that_has_not_every_character(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1", errors="backslashreplace", write_through=True))
    print_json({"data": "müßig \N{ROSE}"})
    assert json.loads(written.getvalue()) == {"data": "müßig \N{ROSE}"}
