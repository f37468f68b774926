"""What is a saved model, and what only looks like one."""

import json
import os
import struct
import subprocess
import sys

import pytest
from store_models import SIGNATURE, save_model

from aimass.core.errors import DataError, NotFound, TooLarge
from aimass.store import saved
from aimass.store.saved import files_of, read_signature


def damage(folder, how):
    description, tensors = folder / "model.json", folder / "model.safetensors"
    if how == "no description":
        description.unlink()
    elif how == "no tensors":
        tensors.unlink()
    elif how == "cut short":
        tensors.write_bytes(tensors.read_bytes()[:-5])
    elif how == "too long":
        tensors.write_bytes(tensors.read_bytes() + b"more")
    elif how == "a long head":
        tensors.write_bytes(struct.pack("<Q", 2**60) + tensors.read_bytes()[8:])
    elif how == "a pickle":
        tensors.write_bytes(b"\x80\x04}\x94.")
    elif how == "empty":
        tensors.write_bytes(struct.pack("<Q", 2) + b"{}")
    elif how == "tensors are a folder":
        tensors.unlink()
        tensors.mkdir()
    else:
        description.write_text(how)


WRONG = {
    "no description": (NotFound, "is no model: it has no model.json"),
    "no tensors": (NotFound, "is no model: it has no model.safetensors"),
    "cut short": (DataError, "model.safetensors is damaged"),
    "too long": (DataError, "model.safetensors is damaged"),
    "a long head": (DataError, "model.safetensors is damaged"),
    "a pickle": (DataError, "model.safetensors is damaged"),
    "empty": (DataError, "holds no tensor"),
    "tensors are a folder": (DataError, "model.safetensors is a link or no plain file"),
    "{": (DataError, "model.json cannot be read"),
    "[" * 100_000: (DataError, "model.json cannot be read"),
    "[]": (DataError, "does not describe a model"),
    '{"format": true}': (DataError, "does not describe a model"),
    '{"format": "1"}': (DataError, "does not describe a model"),
    '{"format": 2}': (DataError, "newer release .format 2, and this one reads 1"),
    '{"format": 1}': (DataError, "no signature"),
    '{"format": 1, "signature": {"inputs": [3], "target": "a", "task": "b"}}': (DataError, "no signature"),
    '{"format": 1, "signature": {"inputs": [], "target": "a"}}': (DataError, "no signature"),
}


@pytest.mark.parametrize("how", WRONG, ids=lambda how: how[:20])
def test_a_folder_that_is_no_model_is_refused(tmp_path, how):
    folder = save_model(tmp_path / "model")
    damage(folder, how)
    kind, words = WRONG[how]
    with pytest.raises(kind, match=words):
        read_signature(folder)


def test_a_refused_folder_leaves_no_version(registry, saved_model):
    damage(saved_model, "cut short")
    with pytest.raises(DataError):
        registry.add("proj-a", "churn", saved_model)
    with pytest.raises(NotFound, match="no model 'churn' in this project"):
        registry.model("proj-a", "churn")


def test_a_description_that_is_far_too_long_is_not_read(tmp_path):
    folder = save_model(tmp_path / "model")
    with (folder / "model.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(TooLarge, match="larger than 64 MB"):
        read_signature(folder)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    folder = save_model(tmp_path / "model")
    (folder / "card.md").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match=r"card.md is a link"):
        files_of(folder)


def test_a_pipe_is_not_waited_for(tmp_path):
    folder = save_model(tmp_path / "model")
    os.mkfifo(folder / "pipe")
    with pytest.raises(DataError, match="pipe is a link or no plain file"):
        files_of(folder)
    for name in ("model.safetensors", "model.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(DataError, match=f"{name} is a link or no plain file"):
            read_signature(folder)
        (folder / name).unlink()


def test_a_folder_of_very_many_files_is_no_model(tmp_path):
    folder = save_model(tmp_path / "model")
    for number in range(1001):
        (folder / str(number)).touch()
    with pytest.raises(TooLarge, match="more than 1000 files"):
        files_of(folder)


def test_files_below_folders_come_by_their_path(tmp_path):
    folder = save_model(tmp_path / "model")
    (folder / "parts").mkdir()
    (folder / "parts" / "a.safetensors").touch()
    assert list(files_of(folder)) == ["model.json", "model.safetensors", "parts/a.safetensors"]


def test_a_model_that_was_trained_and_saved_is_one(tmp_path):
    from aimass.data import load
    from aimass.models.config import build_module, parse_model
    from aimass.models.folder import FORMAT
    from aimass.models.model import Model

    encoder = load({"a": [1.0, 2.0, 3.0, 4.0] * 5, "y": ["p", "q"] * 10}, target="y").encoder
    config = parse_model("linear")
    module = build_module(config, encoder.num_numbers, encoder.cardinalities, 2)
    made = Model(module=module, encoder=encoder, config=config)
    folder = made.save(tmp_path / "model")
    assert read_signature(folder) == json.loads(json.dumps(made.signature()))
    assert saved.NEWEST_FORMAT == FORMAT


def test_the_store_imports_no_torch(tmp_path):
    folder = save_model(tmp_path / "model")
    program = """
import sys
from pathlib import Path
from aimass.store.blobs import Blobs
from aimass.store.database import Database
from aimass.store.registry import Registry
from aimass.store.tables import projects
database = Database.open("sqlite:///" + sys.argv[1] + "/a.db")
with database.write() as connection:
    connection.execute(projects.insert().values(id="p", name="p", created=0))
registry = Registry(database, Blobs(sys.argv[1] + "/blobs"))
version = registry.add("p", "m", Path(sys.argv[2]))
registry.materialise(version, Path(sys.argv[1]) / "cache")
assert "torch" not in sys.modules, "the store imports torch"
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), str(folder)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert SIGNATURE["task"] == "binary"
