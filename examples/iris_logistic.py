"""Logistic regression on iris: the accuracy after each epoch, printed and drawn.

python examples/iris_logistic.py              writes iris_accuracy.png
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

import aimass

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--out", type=Path, default=Path("iris_accuracy.png"))
asked = parser.parse_args()

data = aimass.data.load("iris", split=(0.6, 0.2, 0.2))
run = aimass.train(data, model="logistic", optimizer={"name": "sgd", "lr": 0.1}, batch_size=16, epochs=asked.epochs).wait()

curve = [epoch["validation"]["accuracy"] for epoch in run.history()]
for epoch, accuracy in enumerate(curve, start=1):
    print(f"epoch {epoch:3}  accuracy {accuracy:.3f}  {'#' * round(40 * accuracy)}")

figure = Figure(figsize=(6, 3.5), layout="constrained")
axes = figure.subplots()
axes.plot(range(1, len(curve) + 1), curve, marker=".")
axes.set(xlabel="epoch", ylabel="accuracy (validation)", ylim=(0, 1.02), title="Logistic regression on iris")
figure.savefig(asked.out)
print(f"test accuracy {run.model.evaluate(data.test)['accuracy']:.3f}; the curve is in {asked.out}")
