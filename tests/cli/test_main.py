import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "pyarrow", "pydantic", "sklearn", "numpy", "matplotlib", "pandas", "httpx", "sqlalchemy", "fastapi", "uvicorn", "msgspec")
COMMANDS = (
    "train",
    "compare",
    "settings",
    "predict",
    "generate",
    "evaluate",
    "data",
    "runs",
    "demo",
    "up",
    "login",
    "files",
    "datasets",
    "jobs",
    "models",
    "deploy",
)
COMMANDS += ("deployments", "engines", "usage", "keys", "projects")


@pytest.mark.parametrize("command", ["--help", ""])
def test_help_imports_nothing_heavy(start, command):
    code = f"""
import sys
from aimass.cli import main
try:
    main({command.split()!r})
finally:
    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    out, err = start(code=code).communicate(timeout=240)
    assert err.strip() == "[]"
    assert "aimass" in out


def test_it_is_a_module_too(home):
    done = subprocess.run([sys.executable, "-m", "aimass", "--version"], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("aimass ")


def test_help_names_every_command(aimass):
    for arguments in ([], ["--help"], ["-h"]):
        outcome = aimass(*arguments)
        assert outcome.status == 0
        assert [name for name in COMMANDS if f" {name} " not in outcome.out] == []


def test_a_noun_without_a_verb_shows_its_help_once(aimass):
    outcome = aimass("runs")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.count("Usage:") == 1


def test_version(aimass):
    from aimass import __version__

    assert aimass("--version").out == f"aimass {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["trian"], 2, "error: no such command 'trian'; did you mean 'train'? `aimass --help` shows what there is\n"),
        (
            ["keys", "create", "shop", "--role", "boss"],
            2,
            "error: invalid value for '--role': 'boss' is not one of 'inference', 'member', 'admin'; "
            "`aimass keys create --help` shows what there is\n",
        ),
        (["train", "iris", "epochs=3"], 2, "error: got unexpected extra argument(s) (epochs=3); write a setting like --epochs 3\n"),
        (["train", "iris", "--epochs", "0"], 2, "error: stop.epochs=0: input should be greater than or equal to 1\n"),
        (["train", "iris", "--workers", "-1"], 2, "error: workers=-1: input should be greater than or equal to 0\n"),
        (["train", "no.csv", "--target", "x"], 5, "error: there is no file 'no.csv'"),
        (["train", "iris", "--target", "spcies"], 4, "error: the target is 'spcies'"),
        (["runs", "show", "nope"], 5, "error: there is no run 'nope'"),
        (["predict", "nope", "iris"], 5, "error: there is no model folder 'nope'"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(aimass, arguments, status, message):
    outcome = aimass(*arguments)
    assert outcome.status == status
    assert outcome.err.startswith(message)
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""


def test_for_programs_an_error_is_an_object(aimass):
    outcome = aimass("train", "no.csv", "--target", "x", "--json")
    error = json.loads(outcome.out)["error"]
    assert (outcome.status, error["type"], error["code"], error["param"]) == (5, "NotFound", "not_found", None)
    assert outcome.err == f"error: {error['message']}\n"

    error = json.loads(aimass("train", "iris", "--epochs", "many", "--json").out)["error"]
    assert (error["type"], error["code"], error["param"]) == ("UsageError", "invalid_request", "epochs")


def test_a_name_that_is_no_utf8_is_no_fault(aimass):
    name = os.fsdecode(b"\xff.csv")
    Path(name).write_text("age\n41\n29\n")
    outcome = aimass("data", "describe", name, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    assert json.loads(outcome.out)["name"] == name


def test_a_fault_of_ours_is_one_line_and_its_trace_is_kept(aimass, home, monkeypatch):
    from aimass.training.run import Run

    def fail(*_, **__):
        raise ZeroDivisionError("never\nmind")

    monkeypatch.setattr(Run, "list", fail)
    outcome = aimass("runs", "list")
    assert outcome.status == 70
    assert outcome.err.count("\n") == 1
    (trace,) = (home / "crashes").iterdir()
    assert f"(ZeroDivisionError: never mind); the trace is in {trace}" in outcome.err
    kept = trace.read_text()
    assert kept.startswith("aimass runs list\n")
    assert 'raise ZeroDivisionError("never\\nmind")' in kept


def test_a_fault_whose_trace_cannot_be_kept_prints_it(aimass, home, monkeypatch):
    from aimass.training.run import Run

    monkeypatch.setattr(Run, "list", lambda: 1 / 0)
    home.write_text("a file where the folder should be")
    outcome = aimass("runs", "list")
    assert outcome.status == 70
    assert "Traceback" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("error: this is a fault in aimass (ZeroDivisionError: division by zero)")


def test_a_reader_that_leaves_early_is_no_fault(start, home):
    process = start("data", "describe", "digits")
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert err == ""
    assert not (home / "crashes").exists()
