"""`aimass predict`: a model's answers to rows, here or from a service."""

from __future__ import annotations

import csv
import io
import json as jsons
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aimass.cli.options import AsJson
from aimass.cli.output import as_json, print_json
from aimass.core.errors import DataError, NotFound

_ROWS_AT_ONCE = 1000
STANDARD_INPUT = "standard input"


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A saved model's folder, or a run; else what the service has deployed.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A CSV file; a .json or .jsonl file of rows; - reads JSON rows from standard input.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the answers to this file: CSV, or JSON where it ends in .json.")
    ] = None,
    version: Annotated[int | None, typer.Option(metavar="N", help="At a service: this version.", show_default=False)] = None,
    json: AsJson = False,
) -> None:
    """Answer rows, one line each and in their order."""
    from aimass.core.files import write_whole

    answers = _answers(model, data, version)
    document = {"predictions": answers}
    if out is None:
        return print_json(document) if json else typer.echo(_as_csv(answers), nl=False)
    write_whole(out, as_json(document) + "\n" if out.suffix.lower() == ".json" else _as_csv(answers))
    if json:
        return print_json({"rows": len(answers), "out": str(out)})
    typer.echo(f"{len(answers):,} predictions are in {out}")


def _answers(model: str, data: str, version: int | None) -> list[dict[str, Any]]:
    """From the model that is here; else from the one of that name at the service.

    Raises:
        NotFound: there is neither.
    """
    from aimass.client.address import read_login
    from aimass.training.run import Run

    if version is None:
        try:
            if not Path(model).exists():
                Run.open(model)
        except NotFound as error:
            if read_login() is None and not os.environ.get("AIMASS_URL"):
                raise NotFound(f"there is no model folder {model!r}, and {error}") from None
        else:
            from aimass.training.loading import load

            return load(model).predict(read_rows(data))
    return ask_service(model, read_rows(data), version)


def ask_service(model: str, source: Any, version: int | None) -> list[dict[str, Any]]:
    """A deployed model's answers to what `read_rows` gave, a batch of rows at a time.

    Raises:
        DataError: rows that the model cannot answer; the message says from which on they are counted.
    """
    from aimass.client import Client
    from aimass.data.source import open_source

    if isinstance(source, str):
        table = open_source(source).table
        batches = ((start, table.slice(start, _ROWS_AT_ONCE).to_pylist()) for start in range(0, table.num_rows, _ROWS_AT_ONCE))
    else:
        batches = ((start, source[start : start + _ROWS_AT_ONCE]) for start in range(0, len(source), _ROWS_AT_ONCE))
    answers: list[dict[str, Any]] = []
    with Client() as client:
        for start, rows in batches:
            try:
                answers += client.predict(model, rows, version=version)
            except DataError as error:
                raise DataError(f"{error} (counted from row {start})" if start else str(error)) from None
    return answers


def read_rows(source: str) -> Any:
    """What `Model.predict` takes: rows out of JSON, or the path of a file as it is.

    Raises:
        NotFound: there is no such file.
        DataError: it does not hold JSON rows.
    """
    if source == "-":
        try:
            return parse_rows(sys.stdin.read(), STANDARD_INPUT)
        except UnicodeDecodeError as error:
            raise DataError(f"standard input cannot be read ({error}); give JSON rows in UTF-8") from None
    path = Path(source).expanduser()
    if path.suffix.lower() not in (".json", ".jsonl", ".ndjson"):
        return source
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"there is no file {source!r}; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read ({error}); give a file of JSON rows in UTF-8") from None
    return parse_rows(text, source)


def parse_rows(text: str, name: str) -> list[dict[str, Any]]:
    """Rows out of JSON: a list of objects, one object, or one object a line.

    Args:
        text: the JSON.
        name: where it comes from, for messages.

    >>> parse_rows('{"age": 41}\\n{"age": 29}', "rows.jsonl")
    [{'age': 41}, {'age': 29}]
    """
    try:
        rows = jsons.loads(text)
    except ValueError as whole:
        try:
            rows = [jsons.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise DataError(f"{name} holds no JSON rows ({whole}); {_like(name)}") from None
    rows = rows if isinstance(rows, list) else [rows]
    odd = next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None)
    if odd is not None or not rows:
        problem = f"its row {odd} is no object" if odd else "there are none"
        raise DataError(f"{name} holds no JSON rows ({problem}); {_like(name)}")
    return rows


def _like(name: str) -> str:
    like = 'write them like [{"age": 41, "plan": "gold"}]'
    return f"{like}, or give a CSV as a file: only JSON is read from standard input" if name == STANDARD_INPUT else like


def _as_csv(answers: list[dict[str, Any]]) -> str:
    names = [name for name in ("prediction", "probability", "text") if not answers or name in answers[0]]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([answer[name] for name in names] for answer in answers)
    return file.getvalue()
