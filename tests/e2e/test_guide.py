"""docs/guide.md, carried out as a reader would: its shell in one shell, its Python beside it, against the service that it starts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from services import free_port, running_service

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
BLOCK = re.compile(r"^```(sh|python story)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "=====block====="


def script_of(guide, port):
    """The guide as one shell script, which says where each block begins."""
    parts = ["set -e"]
    for number, (language, code) in enumerate(BLOCK.findall(guide)):
        code = code.replace("127.0.0.1:8321", f"127.0.0.1:{port}")
        body = (
            code
            if language == "sh"
            else f"cat > block{number}.py <<'PYTHON'\n{code}PYTHON\npython -W error::DeprecationWarning:aimass block{number}.py\n"
        )
        parts.append(f"echo '{MARK}'\n{body}")
    return "\n".join(parts)


@pytest.mark.timeout(1200)
def test_the_guide_is_true(tmp_path, own_home):
    port = free_port()
    with running_service(own_home, port=port) as service:
        programs = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "AIMASS_ADMIN_KEY": service.key}
        script = script_of(GUIDE.read_text(encoding="utf-8"), port)
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1000, check=False
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = done.stdout.split(MARK)
    assert len(said) - 1 == len(BLOCK.findall(GUIDE.read_text(encoding="utf-8")))
