import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_examples_of_the_guide_print_what_they_say(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    source = "\n".join(blocks)
    exec(compile(source, str(GUIDE), "exec"), {})
    printed = capsys.readouterr().out
    said = re.findall(r"^print\(.*\) +# (.*)$", source, re.MULTILINE)
    assert len(said) > 5
    assert [line for line in said if line not in printed] == []
