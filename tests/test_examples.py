"""Every example runs, says what it should, and is in the list."""

import runpy
import sys
from pathlib import Path

import pytest
from pictures import squares, write_mnist

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Carries out an example as a program of this process; what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_a_cnn_on_the_digits_by_asynchronous_sgd(run):
    printed = run("mnist_cnn.py", "--epochs", "2")
    assert "with images of (1, 8, 8)" in printed
    assert float(printed.split("test accuracy ")[1].split(";")[0]) > 0.6


def test_a_cnn_on_the_files_of_mnist(run, tmp_path):
    pixels, labels = squares(80, side=8)
    folder = write_mnist(tmp_path / "mnist", "train", pixels[:60], labels[:60], ".gz")
    write_mnist(folder, "t10k", pixels[60:], labels[60:], ".gz")
    printed = run("mnist_cnn.py", str(folder), "--epochs", "2")
    assert "54 + 6 + 20 rows" in printed


def test_an_mlp_by_incremental_sgd(run):
    printed = run("mlp_incremental.py", "--epochs", "2", "--workers", "3")
    assert "tasks of each worker in the last epoch" in printed


def test_the_accuracy_of_logistic_regression_on_iris(run, tmp_path):
    printed = run("iris_logistic.py", "--epochs", "20")
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("epoch")] == [str(epoch) for epoch in range(1, 21)]
    assert float(printed.split("test accuracy ")[1].split(";")[0]) > 0.8
    assert (tmp_path / "iris_accuracy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_it_is_in_the_list(path):
    assert f"]({path.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
