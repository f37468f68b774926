"""The guide to models: its examples run and print what they say, and it names everything that there is."""

import re
from pathlib import Path

from aimass.models.family import FAMILIES
from aimass.models.tasks import TASKS
from aimass.optim.config import METHODS

GUIDE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_examples_of_the_guide_print_what_they_say(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL))
    exec(compile(source, str(GUIDE), "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    said = re.findall(r"^print\(.*\) +# (.*)$", source, re.MULTILINE)
    assert len(said) > 5
    assert printed == said


def test_every_family_task_and_optimizer_is_in_the_guide():
    guide = GUIDE.read_text(encoding="utf-8")
    for name in FAMILIES.names():
        assert f"| `{name}` |" in guide
        for setting in FAMILIES.load(name).config.model_fields.keys() - {"name"}:
            assert f"`{setting}" in guide
    for name in TASKS:
        assert f"| `{name}` |" in guide
    for name, method in METHODS.items():
        assert f"| `{name}` | {method.lr} |" in guide
