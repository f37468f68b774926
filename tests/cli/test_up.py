import json
import os
import signal
import socket
import stat

import httpx
import pytest
from services import running_service

from aimass.client.address import read_login


def line_of(process):
    line = process.stdout.readline()
    assert line, process.communicate(timeout=30)[1]
    return line


def leave(process):
    process.send_signal(signal.SIGTERM)
    out, err = process.stdout.read(), process.stderr.read()  # what readline has buffered is among it
    assert (process.wait(timeout=120), err) == (0, "")
    return out


def test_a_first_start_says_all_that_is_needed_next(start, home):
    process = start("up", "--port", "0")
    url = line_of(process).split()[4]
    key = line_of(process).split()[-1]
    assert read_login(home).url == url
    assert read_login(home).key == key
    assert stat.S_IMODE((home / "credentials.json").stat().st_mode) == 0o600
    assert httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=60).status_code == 200
    rest = leave(process)
    assert f"it is also in {home / 'credentials.json'}" in rest
    assert "aimass jobs create digits" in rest
    assert rest.splitlines()[-1].startswith("stopped; jobs that were running go on")

    process = start("up", "--port", "0", "--json")
    again = json.loads(line_of(process))
    assert set(again) == {"url", "pid", "home"}
    assert (again["pid"], again["home"]) == (process.pid, str(home))
    assert read_login(home).url == again["url"]
    assert httpx.get(f"{again['url']}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=60).status_code == 200
    refused = start("up", "--port", "0")
    out, err = refused.communicate(timeout=240)
    assert (refused.returncode, out, err.count("\n")) == (10, "", 1)
    assert f"answers at {again['url']} (pid {process.pid}); stop it, or give another home" in err
    assert read_login(home).url == again["url"]
    assert leave(process) == ""


def test_a_home_elsewhere_is_named_in_the_next_command(start, home, tmp_path):
    elsewhere = tmp_path / "else where"
    process = start("up", "--port", "0", "--home", elsewhere)
    line_of(process)
    rest = leave(process)
    assert f"AIMASS_HOME='{elsewhere}' aimass jobs create" in rest
    assert read_login(elsewhere) is not None
    assert read_login(home) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "70000"], "port=70000"),
        (["--engines", "0"], "engines=0"),
        (["--memory", "much"], "memory='much'"),
        (["--database-url", "mysql://x", "--port", "0"], "mysql"),
    ],
)
def test_a_setting_that_is_off_is_one_line(aimass, arguments, said):
    outcome = aimass("up", *arguments)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert said in outcome.err


def test_a_port_that_is_taken_says_so(start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = start("up", "--port", other.getsockname()[1])
        out, err = process.communicate(timeout=240)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert "take another with --port" in err


def test_what_the_environment_says_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("AIMASS_MAX_UPLOAD", "10")
    with running_service(tmp_path / "home") as service:
        files = {"file": ("a.csv", b"x" * 1000)}
        assert httpx.post(f"{service.url}/v1/files", headers=service.headers, files=files, timeout=60).status_code == 413
        assert os.path.exists(tmp_path / "home" / "aimass.db")
