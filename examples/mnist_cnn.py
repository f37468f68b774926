"""Handwritten digits with a convolutional network, by asynchronous SGD.

python examples/mnist_cnn.py                  the 1,797 digits of 8 × 8 pixels that ship with scikit-learn
python examples/mnist_cnn.py ~/mnist          MNIST: the folder with train-images-idx3-ubyte(.gz) and the three other files
"""

import argparse

import aimass

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", nargs="?", help="the files of MNIST; without them the digits are used")
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--epochs", type=int, default=8)
asked = parser.parse_args()

data = aimass.data.load(asked.folder or "digits")
print(data, "with images of", data.encoder.image)

run = aimass.train(data, model="cnn", strategy="async_sgd", workers=asked.workers, optimizer="adam", epochs=asked.epochs, progress=True)

staleness = run.metrics()["staleness"]
late = sum(steps * count for steps, count in enumerate(staleness)) / sum(staleness)
print(f"test accuracy {run.model.evaluate(data.test)['accuracy']:.4f}; a gradient was {late:.2f} steps late on average")
