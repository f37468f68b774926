"""`aimass predict`: a model's answers to rows."""

from __future__ import annotations

import csv
import io
import json as jsons
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aimass.cli.options import AsJson
from aimass.cli.output import as_json, print_json
from aimass.core.errors import DataError, NotFound


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A saved model's folder, or a run.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A CSV file; a .json or .jsonl file of rows; - reads JSON rows from standard input.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the answers to this file: CSV, or JSON where it ends in .json.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Answer rows, one line each and in their order."""
    from aimass.core.files import write_whole
    from aimass.training.loading import load

    answers = load(model).predict(read_rows(data))
    document = {"predictions": answers}
    if out is None:
        return print_json(document) if json else typer.echo(_as_csv(answers), nl=False)
    write_whole(out, as_json(document) + "\n" if out.suffix.lower() == ".json" else _as_csv(answers))
    if json:
        return print_json({"rows": len(answers), "out": str(out)})
    typer.echo(f"{len(answers):,} predictions are in {out}")


def read_rows(source: str) -> Any:
    """What `Model.predict` takes: rows out of JSON, or the path of a file as it is.

    Raises:
        NotFound: there is no such file.
        DataError: it does not hold JSON rows.
    """
    if source == "-":
        return parse_rows(sys.stdin.read(), "standard input")
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
            raise DataError(f'{name} holds no JSON rows ({whole}); write them like [{{"age": 41, "plan": "gold"}}]') from None
    rows = rows if isinstance(rows, list) else [rows]
    odd = next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None)
    if odd is not None or not rows:
        problem = f"its row {odd} is no object" if odd else "there are none"
        raise DataError(f'{name} holds no JSON rows ({problem}); write them like [{{"age": 41, "plan": "gold"}}]')
    return rows


def _as_csv(answers: list[dict[str, Any]]) -> str:
    names = [name for name in ("prediction", "probability") if not answers or name in answers[0]]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([answer[name] for name in names] for answer in answers)
    return file.getvalue()
