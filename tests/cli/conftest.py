import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from aimass.cli import main


@dataclass
class Outcome:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder for runs, and one to work in, of the test alone."""
    monkeypatch.setenv("AIMASS_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.fixture
def aimass(home, capsys):
    """Runs a command in this process."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Outcome(left.value.code, printed.out, printed.err)

    return run


@pytest.fixture
def start(home):
    """Starts a command as a process of its own. Whatever is left of it at the end of the test is killed."""
    started = []

    def run(*arguments, code="from aimass.cli import main; main()", **options):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        environment = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **{"stdin": subprocess.DEVNULL, **options}
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
