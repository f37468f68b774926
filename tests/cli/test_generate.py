"""`aimass generate`."""

import base64
import io
import json
import os
import pty
import subprocess
import sys

import pytest
import torch

from aimass.cli import main
from aimass.cli.generate import harmless
from aimass.data import load
from aimass.data.text import with_context
from aimass.models.config import build_module, parse_model
from aimass.models.model import Model

HALF = "é".encode()[:1]
"""The first byte of a character of two."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    encoder = with_context(load({"text": ["to be or not to be " * 20]}, task="language"), 8).encoder
    config = parse_model({"name": "transformer", "layers": 1, "heads": 1, "width": 8, "context": 8})
    model = Model(module=build_module(config, 0, encoder.cardinalities, 256), encoder=encoder, config=config)
    return model.save(tmp_path_factory.mktemp("models") / "poet")


@pytest.fixture
def say(folder, capsysbinary, monkeypatch):
    """Runs the command in this process; how it ended, and the bytes that it printed."""

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["generate", str(folder), *map(str, arguments)])
        return left.value.code, *capsysbinary.readouterr()

    return run


def test_a_text_goes_on_as_from_python(folder, say):
    expected = Model.load(folder).generate("to be", 12, temperature=0.5, top_k=3, seed=7)
    options = ("--max-bytes", 12, "--temperature", 0.5, "--top-k", 3, "--seed", 7)
    assert say("to be", *options)[1].decode() == f"to be{expected}\n"
    found = json.loads(say("-", *options, "--json", stdin=b"to be")[1])
    added = base64.b64decode(found.pop("base64"))
    assert found == {"prompt": "to be", "text": expected}
    assert (len(added), added.decode("utf-8", "replace")) == (12, expected)


def test_what_is_no_text_is_replaced_unless_the_bytes_are_asked_for(folder, say):
    """A model that has learnt nothing writes any byte."""
    added = Model.load(folder).generate_bytes(b"to be" + HALF, 60)
    with pytest.raises(UnicodeDecodeError):
        added.decode()
    whole = b"to be" + HALF + added
    prompt, options = os.fsdecode(b"to be" + HALF), ("--max-bytes", 60)
    assert say(prompt, *options, "--raw") == (0, whole, b"")
    assert say(prompt, *options)[1].decode() == whole.decode("utf-8", "replace") + "\n"
    found = json.loads(say("-", *options, "--json", stdin=b"to be" + HALF)[1])
    assert (found["prompt"], base64.b64decode(found["base64"])) == ("to be\N{REPLACEMENT CHARACTER}", added)


def test_a_terminal_has_whole_characters_and_no_commands(folder, say):
    told = []
    added = Model.load(folder).generate_bytes("té".encode(), 60, tell=told.append)
    assert b"".join(told) == added
    ours, terminal = pty.openpty()
    command = [sys.executable, "-c", "from aimass.cli import main; main()", "generate", str(folder), "té", "--max-bytes", "60"]
    with subprocess.Popen(
        command, stdout=terminal, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUTF8": "1"}
    ) as process:
        os.close(terminal)
        seen = _all_of(ours)
        assert (process.wait(240), process.stderr.read()) == (0, b"")
    assert seen.decode().replace("\r\n", "\n") == harmless(("té".encode() + added).decode("utf-8", "replace")) + "\n"


def _all_of(descriptor):
    """What is written to a terminal until nobody has it open any more."""
    seen = b""
    try:
        while part := os.read(descriptor, 4096):
            seen += part
    except OSError:  # how Linux says so
        pass
    os.close(descriptor)
    return seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", -1], b"temperature=-1.0: give a number from 0 up"),
        (["--raw", "--json"], b"--raw and --json are two forms of one answer"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(say, arguments, message):
    status, out, err = say("to be", *arguments)
    assert (status, err.startswith(b"error: " + message), err.count(b"\n")) == (2, True, 1)
    assert b"to be" not in out
