"""The options that describe a training, for `aimass train` here and `aimass jobs create` at a service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from aimass.cli.options import DATA, read_schema, read_split

TRAINING, ENDS = "Training", "When it ends, at whichever comes first"


def option(panel: str, text: str, *names: str, metavar: str | None = None) -> Any:
    """An option in a panel of the help. What it is by default stands in the table of settings."""
    return typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar, show_default=False)


Task = Annotated[str | None, option(DATA, "binary, multiclass, regression or language; told from the target by default.")]
Split = Annotated[str | None, option(DATA, "Shares of training, validation and test, such as 0.8,0.1,0.1.", metavar="A,B,C")]
Stratify = Annotated[bool | None, option(DATA, "Give each split its share of each class.")]
SplitSeed = Annotated[int | None, option(DATA, "Decides which row goes where; by default the --seed.")]
Weight = Annotated[str | None, option(DATA, "A column of how much each row counts.", metavar="COLUMN")]
ImageSize = Annotated[str | None, option(DATA, "Resize image files to this height and width, such as 28 or 28x32.", metavar="HxW")]

Strategy = Annotated[str | None, option(TRAINING, "How workers train together, such as async_sgd; auto chooses by measuring.")]
BatchSize = Annotated[int | None, option(TRAINING, "Rows per worker per step.")]
Optimizer = Annotated[str | None, option(TRAINING, "Such as sgd, momentum, adam, adamw, adagrad or ftrl; auto chooses by measuring.")]
LearningRate = Annotated[float | None, option(TRAINING, "The learning rate; by default the optimizer's own.")]
Schedule = Annotated[str | None, option(TRAINING, "How the rate changes: constant, cosine, step, inverse_sqrt.")]
Clip = Annotated[float | None, option(TRAINING, "The largest norm of a gradient.", metavar="NORM")]
Seed = Annotated[int | None, option(TRAINING, "Decides the split, the first parameters and the order of rows.")]
Precision = Annotated[str | None, option(TRAINING, "In what the model computes: float32, bf16, or auto for what is faster by far.")]
StartFrom = Annotated[str | None, option(TRAINING, "Begin with a trained model: its folder, or a run's id.", metavar="MODEL")]
Grow = Annotated[bool | None, option(TRAINING, "Begin with the answers of a smaller model of the same family.", "--grow")]
Freeze = Annotated[str | None, option(TRAINING, "Parameters that keep their values, such as 'features.*'.", metavar="NAMES")]
Adapter = Annotated[str | None, option(TRAINING, "Learn small matrices beside what is frozen: lora.")]

Epochs = Annotated[int | None, option(ENDS, "Passes over the training rows.")]
MaxSteps = Annotated[int | None, option(ENDS, "Batches, over all workers.")]
Patience = Annotated[int | None, option(ENDS, "Early stopping: epochs without a better validation metric.")]
Tolerance = Annotated[float | None, option(ENDS, "Converged: the training loss changes by less, three epochs in a row.")]
Budget = Annotated[str | None, option(ENDS, "Wall-clock time, such as 90s, 5m or 2h.", metavar="TIME")]


DATA_OPTIONS = ("schema", "task", "split", "stratify", "split_seed", "weight", "missing", "image_size")
SETTINGS: tuple[str, ...] = (
    "model",
    "strategy",
    "workers",
    "batch_size",
    "optimizer",
    "lr",
    "schedule",
    "clip",
    "seed",
    "device",
    "precision",
    "start_from",
    "grow",
    "freeze",
    "adapter",
)
SETTINGS += ("epochs", "max_steps", "patience", "tolerance", "budget")


def data_options(given: dict[str, Any]) -> dict[str, Any]:
    """What was said of the data, in the words of `aimass.load`."""
    options = {name: given[name] for name in DATA_OPTIONS if name in given}
    readers: dict[str, Callable[[Any], Any]] = {"schema": read_schema, "split": read_split}
    options = {name: readers.get(name, lambda value: value)(value) for name, value in options.items()}
    options["seed"] = options.pop("split_seed", given.get("seed", 0))
    return options
