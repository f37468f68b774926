"""Every example runs, says what it should, and is in the list."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import squares, write_mnist

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, folder, *arguments):
    """What an example prints."""
    environment = {**os.environ, "AIMASS_HOME": str(folder / "home")}
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cnn_on_the_digits_by_asynchronous_sgd(tmp_path):
    printed = run("mnist_cnn.py", tmp_path, "--epochs", "2")
    assert "with images of (1, 8, 8)" in printed
    assert float(printed.split("test accuracy ")[1].split(";")[0]) > 0.6


def test_a_cnn_on_the_files_of_mnist(tmp_path):
    pixels, labels = squares(80, side=8)
    folder = write_mnist(tmp_path / "mnist", "train", pixels[:60], labels[:60], ".gz")
    write_mnist(folder, "t10k", pixels[60:], labels[60:], ".gz")
    printed = run("mnist_cnn.py", tmp_path, str(folder), "--epochs", "2")
    assert "54 + 6 + 20 rows" in printed


def test_an_mlp_by_incremental_sgd(tmp_path):
    printed = run("mlp_incremental.py", tmp_path, "--epochs", "2", "--workers", "3")
    assert "tasks of each worker in the last epoch" in printed


def test_the_accuracy_of_logistic_regression_on_iris(tmp_path):
    printed = run("iris_logistic.py", tmp_path, "--epochs", "20")
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("epoch")] == [str(epoch) for epoch in range(1, 21)]
    assert float(printed.split("test accuracy ")[1].split(";")[0]) > 0.8
    assert (tmp_path / "iris_accuracy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_it_is_in_the_list(path):
    assert f"]({path.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
