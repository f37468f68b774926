"""`aimass evaluate`: how good a model is on rows whose target is known."""

from __future__ import annotations

from typing import Annotated

import typer

from aimass.cli.local import load_here
from aimass.cli.options import AsJson
from aimass.cli.output import number, print_json


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A saved model's folder, or a run.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="A CSV file that has the target column, or a sample.")],
    json: AsJson = False,
) -> None:
    """Measure a model on rows whose target is known."""
    metrics = load_here(model).evaluate(data)
    if json:
        return print_json({"metrics": metrics})
    width = max(12, *(len(name) + 2 for name in metrics))
    for name, value in metrics.items():
        typer.echo(f"{name:<{width}}{number(value)}")
