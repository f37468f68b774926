"""`aimass demo`: the whole story on the handwritten digits that ship with scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aimass.cli.interrupts import StopInOrder
from aimass.cli.options import AsJson
from aimass.cli.output import figures, print_json
from aimass.cli.train import carry_out

if TYPE_CHECKING:
    from aimass.data.dataset import Rows

_EPOCHS = 40
_SHOWN = 10
_SHADES = "  .:-=+*#%@@"
_SIDE = 8


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the curve and the model go.")] = Path("demo-output"),
    workers: Annotated[int, typer.Option(min=0, help="Worker processes.")] = 2,
    json: AsJson = False,
) -> None:
    """Train on handwritten digits with asynchronous workers, draw the curve, save the model, and predict."""
    import aimass

    def say(text: str) -> None:
        if not json:
            typer.echo(text)

    say("1. Data: 1,797 handwritten digits, 8 x 8 pixels each. They come with scikit-learn, so nothing is downloaded.")
    with StopInOrder() as stop:
        data = aimass.data.load("digits")
        say(f"   {data}\n")
        say(f"2. Training on {workers} worker processes; each takes batches and pushes gradients without waiting for the others.")
        run = carry_out(lambda: aimass.train(data, model="mlp", workers=workers, optimizer="adam", epochs=_EPOCHS), stop)
    curve, model = run.plot(out / "curve.png"), run.model
    saved, metrics = model.save(out / "model"), model.evaluate(data.test)
    loaded = aimass.load(saved)
    answers, truths = loaded.predict(data.test)[:_SHOWN], _truths(data.test)[:_SHOWN]
    if json:
        return print_json(
            {**run.summary(), "folder": str(run.folder), "test": metrics, "out": str(saved), "plot": str(curve), "predictions": answers}
        )
    say(f"\n3. On {len(data.test)} digits that it never saw: {figures(metrics)}.\n")
    say(f"4. The model, loaded again from {saved}, looks at one of them and answers: {answers[0]['prediction']}\n")
    say(picture(data.test, 0))
    say(f"\n   the next {_SHOWN} answers   {'  '.join(str(answer['prediction']) for answer in answers)}")
    say(f"   the truth             {'  '.join(map(str, truths))}\n")
    say(f"The learning curve is in {curve}, the model in {saved}, the run in {run.folder}.")
    say("What to try next:")
    say("  aimass train breast_cancer --workers 2 --patience 5 --out cancer")
    say("  aimass train YOUR.csv --target COLUMN --workers 2")
    say(f"  aimass evaluate {saved} digits")
    say(f"  aimass runs show {run.id}")


def picture(rows: Rows, number: int) -> str:
    """One digit in letters."""
    pixels = rows.table.slice(number, 1).to_pylist()[0]
    lines = []
    for row in range(_SIDE):
        shades = [_SHADES[int(pixels[f"pixel_{row}_{column}"] / 16 * (len(_SHADES) - 1))] for column in range(_SIDE)]
        lines.append("      " + "".join(shade * 2 for shade in shades))
    return "\n".join(lines)


def _truths(rows: Rows) -> list[object]:
    targets = rows.encoded.targets
    assert targets is not None, "a split has targets"
    return [rows.encoder.decode_class(int(target)) for target in targets]
