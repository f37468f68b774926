"""Training on two workers from every place that Python runs in: a script without a guard, stdin, a command, a notebook."""

import os
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from services import processes_of

PROGRAM = """
import torch
import aimass

class Net(torch.nn.Module):          # lives in __main__ alone, and reaches the workers all the same
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(13, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))

    def forward(self, numbers):
        return self.layers(numbers)

print("main runs")
data = aimass.data.load("wine")
run = aimass.train(data, model=Net(), strategy="async_sgd", workers=2, epochs=30, lr=0.01)
run.wait()
print("accuracy", run.model.evaluate(data.train)["accuracy"], "steps", run.metrics()["steps"])
"""


def check(output):
    assert output.count("main runs") == 1, "a worker ran the program again"
    assert "steps 150" in output
    assert float(output.split("accuracy ")[1].split()[0]) > 0.95


@pytest.mark.parametrize("how", ["script", "stdin"])
def test_a_program_trains_on_two_workers_and_leaves_none(how, tmp_path, own_home):
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments, given = (["program.py"], None) if how == "script" else ([], PROGRAM)
    done = subprocess.run([sys.executable, *arguments], input=given, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    check(done.stdout)
    assert processes_of(own_home, "aimass.cluster.fork_server") == []


def test_a_program_of_c_that_does_not_wait_still_trains_to_the_end(own_home):
    program = PROGRAM.split("run.wait()")[0] + "print(run.id)\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    import aimass

    said, name = done.stdout.split("\n", 1)
    run = aimass.Run.open(name.strip())
    assert (said, run.state, run.metrics()["steps"]) == ("main runs", "succeeded", 150)
    assert processes_of(own_home, "aimass.cluster.fork_server") == []


@pytest.mark.filterwarnings("ignore")  # of the notebook client's own event loop
def test_a_notebook_trains_on_two_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in PROGRAM.split("\n\n\n" if "\n\n\n" in PROGRAM else 'print("main runs")')]
    notebook.cells[1].source = 'print("main runs")' + notebook.cells[1].source
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(notebook, timeout=None, startup_timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    check("".join(output.get("text", "") for output in notebook.cells[1].outputs))
    assert "JPY_PARENT_PID" not in os.environ
