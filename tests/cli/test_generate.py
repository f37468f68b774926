"""`aimass generate`."""

import json
import subprocess
import sys

import pytest
import torch

from aimass.data import load
from aimass.data.text import with_context
from aimass.models.config import build_module, parse_model
from aimass.models.model import Model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    encoder = with_context(load({"text": ["to be or not to be " * 20]}, task="language"), 8).encoder
    config = parse_model({"name": "transformer", "layers": 1, "heads": 1, "width": 8, "context": 8})
    model = Model(module=build_module(config, 0, encoder.cardinalities, 256), encoder=encoder, config=config)
    return model.save(tmp_path_factory.mktemp("models") / "poet")


def run(*arguments, stdin=""):
    command = [sys.executable, "-c", "from aimass.cli import main; main()", "generate", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def test_a_text_goes_on_as_from_python(folder):
    expected = Model.load(folder).generate("to be", 12, temperature=0.5, top_k=3, seed=7)
    options = ("--max-bytes", 12, "--temperature", 0.5, "--top-k", 3, "--seed", 7)
    assert json.loads(run(folder, "to be", *options, "--json").stdout) == {"prompt": "to be", "text": expected}
    assert json.loads(run(folder, "-", *options, "--json", stdin="to be").stdout)["text"] == expected


def test_what_cannot_be_is_said_in_one_line(folder):
    done = run(folder, "to be", "--temperature", -1)
    assert (done.returncode, "temperature=-1.0: give a number from 0 up" in done.stderr) == (2, True)
