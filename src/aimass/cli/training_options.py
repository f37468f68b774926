"""The options that describe a training, in one list: of `aimass train` and `aimass compare` here, of `aimass jobs create` at a service."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from aimass.cli.options import DATA, Missing, Schema, Target, read_schema, read_split

TRAINING, ENDS = "Training", "When it ends, at whichever comes first"


def option(panel: str, text: str, *names: str, metavar: str | None = None) -> Any:
    """An option in a panel of the help. What it is by default stands in the table of settings."""
    return typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar, show_default=False)


COLUMNS: dict[str, Any] = {
    "target": Target,
    "schema": Schema,
    "missing": Missing,
    "task": Annotated[str | None, option(DATA, "binary, multiclass, regression or language; told from the target by default.")],
    "split": Annotated[str | None, option(DATA, "Shares of training, validation and test, such as 0.8,0.1,0.1.", metavar="A,B,C")],
    "stratify": Annotated[bool | None, option(DATA, "Give each split its share of each class.")],
    "split_seed": Annotated[int | None, option(DATA, "Decides which row goes where; by default the --seed.")],
    "weight": Annotated[str | None, option(DATA, "A column of how much each row counts.", metavar="COLUMN")],
}
"""What is said of a table, by name, as typer takes it."""

OF_DATA: dict[str, Any] = {
    **COLUMNS,
    "image_size": Annotated[str | None, option(DATA, "Resize image files to this height and width, such as 28 or 28x32.", metavar="HxW")],
}
"""What is said of data that is here."""

OF_MODEL: dict[str, Any] = {"model": Annotated[str | None, option(TRAINING, "The model's family, such as mlp or linear.")]}

OF_WORKERS: dict[str, Any] = {
    "strategy": Annotated[str | None, option(TRAINING, "How workers train together, such as async_sgd; auto chooses by measuring.")],
    "workers": Annotated[
        str | None, option(TRAINING, "Worker processes, or a range such as 1:4; 0 trains in the run's own process.", metavar="N")
    ],
}

OF_STEPS: dict[str, Any] = {
    "batch_size": Annotated[str | None, option(TRAINING, "Rows per worker per step, or all.", metavar="N")],
    "loss": Annotated[str | None, option(TRAINING, "What is minimised, such as squared_error; by default what suits the task.")],
    "optimizer": Annotated[str | None, option(TRAINING, "Such as sgd, momentum, adam, adamw, adagrad or ftrl; auto chooses by measuring.")],
    "lr": Annotated[float | None, option(TRAINING, "The learning rate; by default the optimizer's own.")],
    "schedule": Annotated[str | None, option(TRAINING, "How the rate changes: constant, cosine, step, inverse_sqrt.")],
    "clip": Annotated[float | None, option(TRAINING, "The largest norm of a gradient.", metavar="NORM")],
    "seed": Annotated[int | None, option(TRAINING, "Decides the split, the first parameters and the order of rows.")],
    "precision": Annotated[str | None, option(TRAINING, "In what the model computes: float32, bf16, or auto for what is faster by far.")],
}

OF_DEVICES: dict[str, Any] = {
    "device": Annotated[str | None, option(TRAINING, "Where the model computes: cpu, cuda, cuda:1, or auto for a GPU where there is one.")],
}

OF_START: dict[str, Any] = {
    "start_from": Annotated[str | None, option(TRAINING, "Begin with a trained model: its folder, or a run's id.", metavar="MODEL")],
}

OF_TRANSFER: dict[str, Any] = {
    "grow": Annotated[bool | None, option(TRAINING, "Begin with the answers of a smaller model of the same family.", "--grow")],
    "freeze": Annotated[str | None, option(TRAINING, "Parameters that keep their values, such as 'features.*'.", metavar="NAMES")],
    "adapter": Annotated[str | None, option(TRAINING, "Learn small matrices beside what is frozen: lora.")],
}

OF_END: dict[str, Any] = {
    "epochs": Annotated[int | None, option(ENDS, "Passes over the training rows.")],
    "max_steps": Annotated[int | None, option(ENDS, "Batches, over all workers.")],
    "patience": Annotated[int | None, option(ENDS, "Early stopping: epochs without a better validation metric.")],
    "tolerance": Annotated[float | None, option(ENDS, "Converged: the training loss changes by less, three epochs in a row.")],
    "budget": Annotated[str | None, option(ENDS, "Wall-clock time, such as 90s, 5m or 2h.", metavar="TIME")],
}

OF_RUN: dict[str, Any] = OF_STEPS | OF_DEVICES | OF_START | OF_TRANSFER | OF_END
"""What any run takes beside its data, its model and its workers."""

DATA_OPTIONS = tuple(name for name in OF_DATA if name != "target")
SETTINGS = (*OF_MODEL, *OF_WORKERS, *OF_RUN)


def taking(options: Mapping[str, Any], *, before: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command more options than it declares. It finds those that were given in `given_of(context)`.

    Args:
        options: by name, as typer takes them.
        before: the parameter of the command before which they stand in its help.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=options[name]) for name in options]
        parameters = [own.replace(kind=inspect.Parameter.KEYWORD_ONLY) for own in signature.parameters.values()]
        at = [own.name for own in parameters].index(before)

        @functools.wraps(command)
        def with_more(**given: Any) -> None:
            command(**{name: value for name, value in given.items() if name not in options})

        with_more.__signature__ = signature.replace(parameters=[*parameters[:at], *added, *parameters[at:]])  # type: ignore[attr-defined]
        return with_more

    return add


def given_of(context: typer.Context) -> dict[str, Any]:
    """What was on the command line, by name."""
    return {name: value for name, value in context.params.items() if value not in (None, [], ())}


def data_options(given: dict[str, Any]) -> dict[str, Any]:
    """What was said of the data, in the words of `aimass.load`."""
    options = {name: given[name] for name in DATA_OPTIONS if name in given}
    readers: dict[str, Callable[[Any], Any]] = {"schema": read_schema, "split": read_split}
    options = {name: readers.get(name, lambda value: value)(value) for name, value in options.items()}
    options["seed"] = options.pop("split_seed", given.get("seed", 0))
    return options
