"""A multilayer perceptron by incremental SGD: ten workers take tasks of the data, and add what each of them changed.

python examples/mlp_incremental.py
"""

import argparse

import aimass

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--workers", type=int, default=10)
parser.add_argument("--epochs", type=int, default=20)
asked = parser.parse_args()

data = aimass.data.load("digits")
run = aimass.train(
    data,
    model={"name": "mlp", "hidden": (64, 32)},
    strategy={"name": "incremental_sgd", "rho": 2, "combine": "sum"},  # a task is at most 1 / (workers · rho) of the rows
    workers=asked.workers,
    lr=0.005,  # ten changes that began at about the same parameters are added: the step is up to ten times as long
    epochs=asked.epochs,
    progress=True,
)

tasks = [event.data for event in run.events() if event.type == "tasks_done"]
print("tasks of each worker in the last epoch:", tasks[-1]["counts"])
print(f"test accuracy {run.model.evaluate(data.test)['accuracy']:.4f}")
