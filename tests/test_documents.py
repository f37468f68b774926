"""The documents: every Python block runs, every link leads somewhere, and every name that there is to say is said."""

import os
import random
import re
import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from services import running_service

from aimass.cli import main
from aimass.core.events import Event
from aimass.models.family import FAMILIES
from aimass.optim.config import METHODS
from aimass.training import events  # noqa: F401 - it makes the kinds of events known
from aimass.training.config import SHORTHANDS
from aimass.training.strategy import STRATEGIES

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "guide.md"  # tests/e2e carries it out
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def code_of(path, language):
    return [code for written, code in FENCE.findall(path.read_text(encoding="utf-8")) if written == language]


def python_of(path):
    return "\n".join(code_of(path, "python"))


def commands_of(path):
    return "\n".join(code for code in code_of(path, "sh") if "aimass " in code)


def asks_a_service(commands):
    return re.search(r"aimass (jobs|deploy|models|files|datasets|usage|keys|login|engines|projects)\b", commands) is not None


def anchor_of(heading):
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def write_customers(folder):
    """The file that the first example of the README reads."""
    chance = random.Random(0)
    lines = ["age,plan,churn"]
    for _ in range(300):
        age, plan = chance.randint(18, 80), chance.choice(["gold", "free"])
        lines.append(f"{age},{plan},{'yes' if age > 45 and plan == 'free' else 'no'}")
    (folder / "customers.csv").write_text("\n".join(lines))


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if python_of(path)], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_python_runs_and_prints_what_it_says(path, tmp_path, monkeypatch, capfd):
    """In this process, which has torch imported: as in a notebook, its classes are known to nobody else."""
    monkeypatch.setenv("AIMASS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write_customers(tmp_path)
    source = python_of(path)
    with running_service(tmp_path / "home") if "Client(" in source else nullcontext():
        exec(compile(source, str(path), "exec"), {"__name__": "__main__"})
    printed = capfd.readouterr().out.splitlines()
    said = re.findall(r"^ *print\(.*\) +# (.*)$", source, re.MULTILINE)
    assert [line for line in said if not any(line in shown for shown in printed)] == []


def is_plain(path):
    """Whether a document has nothing but commands of ours, which need no shell and no process of their own."""
    return not asks_a_service(commands_of(path)) and all(line.startswith("aimass ") for line in commands_of(path).splitlines())


COMMANDS = [path for path in DOCUMENTS if commands_of(path) and path != GUIDE]


@pytest.mark.parametrize("path", [path for path in COMMANDS if is_plain(path)], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_are_true(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in commands_of(path).splitlines():
        with pytest.raises(SystemExit) as left:
            main(shlex.split(line, comments=True)[1:])
        assert left.value.code == 0, line


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", [path for path in COMMANDS if not is_plain(path)], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_run_in_a_shell(path, tmp_path):
    write_customers(tmp_path)
    (tmp_path / "new_customers.csv").write_text("age,plan\n41,gold\n70,free\n")
    commands = commands_of(path).replace(" RUN ", ' "$(ls "$AIMASS_HOME/runs")" ')
    programs = Path(sys.executable).parent
    environment = {**os.environ, "AIMASS_HOME": str(tmp_path / "home"), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    command = ["sh", "-e", "-c", commands]
    with running_service(tmp_path / "home") if asks_a_service(commands) else nullcontext():
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1000, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_link_leads_somewhere(path):
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        headings = re.findall(r"^#+ (.*)$", FENCE.sub("", there.read_text(encoding="utf-8")), re.MULTILINE) if there.suffix == ".md" else []
        if not there.exists() or (anchor and anchor not in map(anchor_of, headings)):
            dead.append(target)
    assert dead == []


def test_every_name_is_said():
    from aimass.cli.settings import table

    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    names = {
        "settings": list(table()),
        "shorthands": list(SHORTHANDS),
        "strategies": STRATEGIES.names(),
        "models": FAMILIES.names(),
        "optimizers": list(METHODS),
        "events": [kind for kind, event in Event.known.items() if event.__module__.startswith("aimass.training.events.")],
    }
    assert [(kind, name) for kind, known in names.items() for name in known if f"`{name}`" not in text] == []


def test_the_readme_begins_with_the_two_commands():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("#")[0].strip() for line in lines[2:4]] == ["make demo", "make test"]


def test_the_version_of_torch_in_the_readme_is_the_one_that_is_tested():
    pinned = re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert f"`{pinned[0]}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_benchmark_is_made_told_of_and_prints_as_the_others_do():
    folder = ROOT / "benchmarks"
    told = set(re.findall(r"^\| `([\w/]+)\.py` \|", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    made = re.search(r"^BENCHMARKS := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert made is not None
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("[!_]*.py")}
    assert sorted(made[1].replace("\\", "").split()) == sorted(scripts)
    assert told == {*scripts, *(f"experiments/{path.stem}" for path in (folder / "experiments").glob("*.py"))}
    assert [stem for stem, source in scripts.items() if f'show("{stem}", ' not in source or "arguments(" not in source] == []
