"""`aimass generate`: how a language model goes on with a text."""

from __future__ import annotations

from typing import Annotated

import typer

from aimass.cli.options import AsJson
from aimass.cli.output import print_json


def generate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A saved model's folder, or a run.")],
    prompt: Annotated[str, typer.Argument(metavar="TEXT", help="What to go on with; - reads it from standard input.")] = "",
    max_bytes: Annotated[int, typer.Option(metavar="N", help="How many bytes to add at most.")] = 200,
    temperature: Annotated[float, typer.Option(help="How daring it is; 0 always takes the likeliest byte.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(metavar="N", help="Draw among so many of the likeliest bytes alone.")] = None,
    seed: Annotated[int, typer.Option(help="The same one gives the same text.")] = 0,
    json: AsJson = False,
) -> None:
    """Let a language model go on with a text. The text and what follows it are printed."""
    from aimass.training.loading import load

    if prompt == "-":
        prompt = typer.get_text_stream("stdin").read()
    added = load(model).generate(prompt, max_bytes, temperature=temperature, top_k=top_k, seed=seed)
    if json:
        return print_json({"prompt": prompt, "text": added})
    typer.echo(prompt + added)
